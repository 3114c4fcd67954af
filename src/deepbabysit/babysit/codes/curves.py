"""Codes that are read from curves over epochs and from the end of a run."""

from __future__ import annotations

from deepbabysit.babysit.codes.code import Code

CODES: tuple[Code, ...] = (
    Code(
        "not_learning", "the loss does not leave its start", ("epoch",),
        "Progress of the training loss over the first steps and epochs, against its noise.",
        "Something between loss and weights is broken, or the steps are far too small or too large.",
        ("Raise the rate by 10, or lower it by 10 where the loss jumps.", "See the findings of the check before "
         "training: init, labels, output and loss.", "Try Adam with 1e-3."),
        "Zhang et al., AUTOTRAINER (ICSE 2021); SageMaker Debugger, rule loss_not_decreasing.", "error",
        also=("learning_rate_too_low", "symmetric_init", "corrupted_labels", "dead_relu"),
    ),
    Code(
        "oscillating_loss", "the loss swings without progress", ("epoch",),
        "Turning points of the epoch losses and their height against the progress made.",
        "Steps jump from wall to wall of a valley; the average goes nowhere.",
        ("Lower the rate by 3, or decay it: db.schedules.cosine.", "A larger batch.", "Adam."),
        "Zhang et al., AUTOTRAINER (ICSE 2021).",
        picture=r"""
   \         /
    \.  3   /
     \   .'/       1, 2, 3: steps from wall to wall
    1 \'. / 2
       \_/
""",
        also=("learning_rate_too_high", "batch_too_small"),
    ),
    Code(
        "dead_weights", "nearly all weights of a layer are 0", ("epoch",),
        "Share of weights of a kernel below 1e-5 in size.",
        "The layer lets nothing through: everything before it is unused.",
        ("A smaller L1 or L2 factor.", "See that the layer gets a gradient."),
        "Wardat et al., DeepDiagnosis (ICSE 2022).", also=("regularization_too_strong",),
    ),
    Code(
        "weights_diverging", "weights grow without end", ("epoch",),
        "Norm of a layer's weights against its start, over several epochs.",
        "Larger weights make a sharper loss: sooner or later the same rate is too high.",
        ("Weight decay: AdamW(weight_decay=0.01), or l2=1e-4.", "A lower rate.", "Clip gradients."),
        "Wardat et al., DeepDiagnosis (ICSE 2022); SageMaker Debugger, rule exploding_tensor.",
        also=("learning_rate_too_high", "exploding_gradient"),
    ),
    Code(
        "overfitting", "validation gets worse while training gets better", ("epoch",),
        "Gap between the two losses, and the turn of the validation loss.",
        "From the turn on the model learns the rows and no longer what is behind them.",
        ("More data, or augmentation.", "Dropout 0.2 to 0.5.", "L2: kernel_regularizer=db.regularizers.l2(1e-4).",
         "EarlyStopping gives back the best weights.", "A smaller network."),
        "Goodfellow et al., Deep Learning (2016), sec. 5.2 and 7.8; Prechelt, Early Stopping (1998).",
        picture=r"""
  loss |\
       | '.         __.-' validation
       |   '-.__.-'
       |     '-.___  training
       +--------^----------- epoch
             stop here
""",
        also=("regularization_missing", "overtraining"),
    ),
    Code(
        "overtraining", "the run goes on long after its best epoch", ("epoch",),
        "Epochs since the best validation score.",
        "Time is spent on a model that gets worse; the last weights are not the best.",
        ("callbacks=[db.callbacks.EarlyStopping(patience=10)]: stops and gives back the best weights.",),
        "Prechelt, Early Stopping - But When? (1998).", "note", also=("overfitting",),
    ),
    Code(
        "stopped_too_early", "the run ended while the loss was still falling", ("end",),
        "Slope of the losses over the last epochs against their noise.",
        "The model could have been better for nothing but time.",
        ("More epochs.", "A longer patience.", "A higher rate, with a decay at the end."),
        "Goodfellow et al., Deep Learning (2016), sec. 11.4.", "note",
        also=("learning_rate_too_low", "underfitting"),
    ),
    Code(
        "regularization_too_strong", "the penalty outweighs the data", ("check", "epoch"),
        "Gradient of the penalty against that of the data; penalty's share of the loss; shrinking weights; how much "
        "label smoothing leaves of the labels.",
        "The model is pulled to zero rather than to the data: it underfits on both parts.",
        ("A penalty 10 to 100 times smaller (l1 about 1e-5, l2 about 1e-4).", "Less dropout."),
        "Goodfellow et al., Deep Learning (2016), sec. 7.1.", "warning",
        also=("dead_weights", "underfitting", "dropout_too_high"),
    ),
    Code(
        "regularization_missing", "training loss goes to zero, the gap stays open, nothing regularizes", ("end",),
        "Training loss near 0, a wide gap, and no dropout, penalty, augmentation or early stopping.",
        "Nothing keeps the model from learning the rows by heart.",
        ("Dropout 0.2 to 0.5.", "kernel_regularizer=db.regularizers.l2(1e-4).", "Augmentation.", "EarlyStopping."),
        "Srivastava et al., Dropout (JMLR 2014).", also=("overfitting",),
    ),
    Code(
        "class_collapse", "the model predicts one or few classes only", ("check", "epoch"),
        "Shares of the predicted classes against those of the labels; what each class counts in a weighted loss.",
        "The common class, or the one that weighs most, is a comfortable answer; the others are not learned at all.",
        ("Class weights that even out the classes: fit(..., class_weight=...).",
         "A lower rate; see dead units.", "Watch recall per class."),
        "He and Garcia (IEEE TKDE 2009).", also=("class_imbalance", "dead_relu", "learning_rate_too_high"),
    ),
    Code(
        "no_better_than_baseline", "the model is not better than a dumb answer", ("end",),
        "Score against the commonest class, the mean, and a linear model.",
        "What was learned is not worth a network, or nothing was learned.",
        ("See the findings above it.", "Better features.", "More capacity, when training is poor too.",
         "Use the linear model."),
        "Karpathy, A Recipe for Training Neural Networks (2019): set up baselines.", "warning",
        also=("corrupted_labels", "underfitting", "overfitting"),
    ),
)
