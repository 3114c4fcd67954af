"""Pictures and pages made from a history or a run folder."""
