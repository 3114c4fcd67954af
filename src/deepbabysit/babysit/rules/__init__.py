"""What vitals mean: rules, one file per family."""
