"""Step 2: the whole way from data to a score, with a network that is trained shortly, against dumb baselines."""

from __future__ import annotations

from deepbabysit.babysit.recipe import edits
from deepbabysit.babysit.recipe.baselines import baselines
from deepbabysit.babysit.recipe.looking import examine
from deepbabysit.babysit.recipe.steps import Report
from deepbabysit.babysit.recipe.workshop import Workshop, shown

SHORT, STEPS = 3, 100  # the skeleton is trained for this fraction of the epochs, and for so many steps at least
PENALTY = 0.01


def skeleton(shop: Workshop, report: Report) -> None:
    """Compare with guessing, a linear model and a blind twin; look at seeds, the first loss and penalties."""
    setup = shop.setup
    each = -(-len(shop.parts.train[1]) // setup.batch_size)
    epochs = max(setup.epochs // SHORT, -(-STEPS // each))
    found = shop.train(setup, epochs)
    blind = shop.train(setup, epochs, kind="blind")
    dumb = baselines(shop.prepared(setup), setup.build())
    report.tell(f"the network after {found.epochs} epochs: {found.shown()} on the validation rows.",
                network=found.score.value)
    guess = dumb["guessing"]
    report.test(
        not found.exploded and found.score.value > guess.value, f"guessing reaches {shown(guess)}.",
        "The network learns nothing: lower or raise the rate, look at labels and loss.", guessing=guess.value,
    )
    report.test(
        found.score.value > blind.score.value, f"the same network with its inputs zeroed reaches {blind.shown()}.",
        "It makes no use of its inputs: look at the data path and at dead units.", blind=blind.score.value,
    )
    if "linear model" in dumb:
        line = dumb["linear model"]
        beaten = found.score.value > line.value
        report.tell(
            f"a linear model reaches {shown(line)}" + (
                "; the network is better." if beaten else
                ": the network is no better so far, and must earn its size in the next steps."),
            linear=line.value, beats_linear=beaten,
        )
    _first_loss(shop, report)
    _seeds(shop, report)
    _penalty(shop, report)


def _first_loss(shop: Workshop, report: Report) -> None:
    found = examine(shop, shop.setup)
    first, chance = found.record.probes.get("loss"), found.record.run.chance
    if first is None or not chance:
        report.tell("the first loss was not compared with guessing: what guessing costs is not known for this loss.")
        return
    off = [
        f for f in found
        if f.code == "initial_loss_off_chance" and (f.severity != "note" or "explained_by" in f.evidence)
    ]
    report.test(
        not off, f"the first loss is {first.first:.4g}, that of guessing {chance:.4g}.",
        off[0].message if off else "", first_loss=first.first, chance=chance,
    )


def _seeds(shop: Workshop, report: Report) -> None:
    one, two = (shop.train(shop.setup, 1, again=number) for number in (0, 1))
    same = one.losses == two.losses and one.score == two.score
    report.test(same, f"two trainings from seed {shop.setup.seed} end with losses {one.losses[-1]:.6g} and "
                      f"{two.losses[-1]:.6g}.", "Find what is random outside the seed.", same_seed=same)


def _penalty(shop: Workshop, report: Report) -> None:
    try:
        punished = edits.l2(PENALTY)(edits.unregularized(shop.setup))
    except ValueError as error:
        report.tell(f"whether the loss rises with a penalty was not tried: {error}.")
        return
    found = shop.train(punished, 1)
    whole, bare = found.losses[0], found.data_losses[0]
    report.test(whole > bare, f"with an L2 penalty of {PENALTY} the loss rises from {bare:.4g} to {whole:.4g}.",
                "The penalty does not reach the loss: compile after the layers are built.", penalized=whole, bare=bare)
