"""Codes about the model's graph, its output against the loss, and its first weights."""

from __future__ import annotations

from deepbabysit.babysit.codes.code import Code

CODES: tuple[Code, ...] = (
    Code(
        "wrong_loss_for_output", "loss, last activation and kind of target do not belong together", ("check",),
        "Name of the loss, last activation, number of outputs, and whether the targets are classes or numbers.",
        "The loss is then no likelihood of the targets: its gradient vanishes where the model is most wrong, or it "
        "never reaches its minimum at the right answer.",
        ("Use the matching pair from the table below.",),
        "Goodfellow, Bengio, Courville, Deep Learning (2016), sec. 6.2.2; Schoop et al., UMLAUT (CHI 2021); "
        "Nikanjam et al., NeuraLint (TOSEM 2021).", "warning",
        picture=r"""
  target                    last layer               loss
  yes or no                 1 unit, sigmoid          binary_crossentropy
  one of C classes          C units, none            cross_entropy
  one of C classes          C units, softmax         (sparse_)categorical_crossentropy
  several of C labels       C units, sigmoid         binary_crossentropy
  numbers                   as many units, none      mse, mae, huber
""",
        also=("missing_output_activation", "double_softmax", "target_out_of_range"),
    ),
    Code(
        "missing_output_activation", "the loss expects probabilities and the last layer gives any number", ("check",),
        "A loss of probabilities on an output without softmax or sigmoid; outputs outside [0, 1], rows that do not "
        "sum to 1.",
        "The logarithm of a negative number does not exist; what is minimized means nothing.",
        ("Add the activation: Dense(classes, activation='softmax'), or 'sigmoid' for one unit.",
         "Or use the loss of logits: cross_entropy, binary_crossentropy_with_logits."),
        "Schoop et al., UMLAUT (CHI 2021); pytorch/pytorch#55902.", "error",
        also=("double_softmax", "wrong_loss_for_output"),
    ),
    Code(
        "double_softmax", "softmax or sigmoid is applied twice", ("check", "step"),
        "A loss that takes logits on the output of a softmax or sigmoid.",
        "The softmax of probabilities lies near uniform (for 10 classes at most 0.23 for the right one): the loss "
        "cannot fall far, and its gradients are small.",
        ("Remove the activation of the last layer.",
         "Or use the loss of probabilities: sparse_categorical_crossentropy, binary_crossentropy."),
        "pytorch/pytorch#55902; keras-team/keras#19193.", "error", also=("missing_output_activation",),
    ),
    Code(
        "one_unit_softmax", "a softmax over a single unit is always 1", ("check",),
        "A last layer of one unit with softmax, or a loss over classes on one output.",
        "The output does not depend on anything: no gradient, nothing is learned.",
        ("One unit with sigmoid and binary_crossentropy.", "Or two units with softmax."),
        "Schoop et al., UMLAUT (CHI 2021); keras-team/keras#17029.", "error",
    ),
    Code(
        "missing_hidden_activation", "two affine layers follow each other without an activation", ("check",),
        "Dense or convolution layers whose output goes into another affine layer unchanged.",
        "The product of two matrices is a matrix: the layers together are one linear layer, however many there are.",
        ("Give the first of them an activation: Dense(units, activation='relu').",),
        "Nikanjam et al., NeuraLint (TOSEM 2021); Minsky and Papert, Perceptrons (1969).",
        picture=r"""
    x -> [ W1 ] -> [ W2 ] -> y      is      x -> [ W1 W2 ] -> y
""",
    ),
    Code(
        "loss_shape_mismatch", "targets and outputs have different shapes", ("check", "step"),
        "(N,) against (N, 1), class numbers against one-hot rows, another number of columns.",
        "Elsewhere such shapes are broadcast to (N, N) and a wrong number is minimized; here it is refused.",
        ("Give both one shape: y.reshape(-1, 1).", "Class numbers: sparse_categorical_crossentropy or cross_entropy.",
         "One-hot rows: categorical_crossentropy or cross_entropy."),
        "pytorch/pytorch#16045; tensorflow/tensorflow#35490.", "error",
    ),
    Code(
        "symmetric_init", "all weights of a layer start equal", ("check",),
        "Variance of a kernel's weights over its units: 0.",
        "Units with equal weights get equal gradients and stay equal for ever: the layer is one unit wide. Zeros in "
        "two layers give no gradient at all.",
        ("Draw the kernel at random: kernel_initializer='he_normal' (ReLU) or 'glorot_uniform'.",
         "Zeros are right for biases."),
        "Rumelhart, Hinton, Williams (1986); Goodfellow et al., Deep Learning (2016), sec. 8.4.", "error",
        picture=r"""
        x1   x2
        | \ / |        the same weights: the same output,
        | / \ |        the same gradient, for ever
        h1 = h2
""",
    ),
    Code(
        "bad_init_scale", "first weights are too large or too small for their activation", ("check",),
        "Standard deviation of a kernel against what keeps the signal's variance through this activation.",
        "The signal grows or shrinks by this factor in every layer; gradients do the same on the way back.",
        ("kernel_initializer='he_normal' before ReLU and its family, 'glorot_uniform' before tanh and sigmoid, "
         "'lecun_normal' before SELU.", "Or put BatchNorm or LayerNorm behind the layer."),
        "Glorot and Bengio (AISTATS 2010); He et al. (ICCV 2015); Mishkin and Matas, All You Need Is a Good Init "
        "(ICLR 2016).",
        also=("unstable_activation_scale", "symmetric_init"),
    ),
    Code(
        "unstable_activation_scale", "the signal grows or shrinks from layer to layer", ("check",),
        "Standard deviation of each layer's output on one batch, before the first step.",
        "After ten layers a factor of 2 is a factor of 1000: late layers see nothing, or saturate.",
        ("Use the initializer that belongs to the activation (he_normal for ReLU).",
         "Put BatchNorm or LayerNorm between the layers.", "Use residual connections: Add()([x, f(x)])."),
        "He et al. (ICCV 2015); Mishkin and Matas (ICLR 2016).",
        picture=r"""
  std   1.0    0.5    0.25   0.12   0.06
        ####   ###    ##     #      .
        in     1      2      3      4    layer
""",
        also=("bad_init_scale", "vanishing_gradient", "exploding_gradient"),
    ),
    Code(
        "bad_bias_init", "first biases are large, or the last bias is far from the target's mean", ("check",),
        "Largest hidden bias; distance of the first outputs from the class shares or the target mean.",
        "Large biases switch units off or saturate them for every input; a wrong last bias costs the first epochs, in "
        "which only the mean is learned.",
        ("Hidden biases: zeros.", "Last bias: the target's mean, or log(p / (1 - p)) for shares p of a class.",
         "Or scale the target."),
        "Karpathy, A Recipe for Training Neural Networks (2019): init well.",
        also=("initial_loss_off_chance", "target_not_normalized", "dead_relu"),
    ),
    Code(
        "initial_loss_off_chance", "the first loss is far from that of guessing", ("check",),
        "Loss on a batch before the first step against ln(C), ln 2, or the variance of the target.",
        "An untrained model knows nothing and should say so: a loss far above means confident nonsense (last layer too "
        "large, wrong labels or loss); far below means a leak or a wrong reduction.",
        ("Start the last layer small: a kernel of zeros or a small standard deviation there.",
         "Scale the inputs.", "See that loss and labels mean the same classes."),
        "Karpathy, CS231n and A Recipe for Training Neural Networks (2019): verify loss @ init.",
        also=("loss_reduction_sum", "bad_init_scale", "input_not_normalized"),
    ),
    Code(
        "loss_reduction_sum", "the loss grows with the batch size", ("check", "step"),
        "Loss of a batch and of the same batch twice: the second is the double.",
        "The gradient then grows with the batch too: a rate found for one batch size is wrong for any other, and the "
        "ragged last batch counts for less.",
        ("Take the mean over samples in your loss: return losses per sample, or db.ops.mean(...).",
         "Or divide the learning rate by the batch size."),
        "Nikanjam et al., NeuraLint (TOSEM 2021); Goyal et al., Accurate, Large Minibatch SGD (2017), sec. 3.1.",
        also=("learning_rate_too_high", "exploding_gradient"),
    ),
    Code(
        "dropout_too_high", "dropout takes away too much", ("check", "epoch"),
        "A dropout rate above 0.5, or training loss far above validation loss with dropout.",
        "Beyond a half the noise outweighs the signal that is left, and the capacity is paid for and not used.",
        ("A rate of 0.5 or less in hidden layers, 0.2 or less on inputs.", "None directly before the output."),
        "Srivastava et al., Dropout (JMLR 2014); Nikanjam et al., NeuraLint (TOSEM 2021).",
        also=("underfitting", "regularization_too_strong"),
    ),
    Code(
        "batchnorm_misuse", "batch normalization is used so that it cannot work", ("check",),
        "A bias directly before it; a batch of one row; dropout directly before it; running statistics that are never "
        "or always updated; a batch too small for its momentum.",
        "The mean that is taken off takes the bias with it; one row has no variance; dropout changes the variance "
        "between training and test; statistics that stand still are those of no data.",
        ("use_bias=False before BatchNorm.", "Batches of 8 rows or more, or GroupNorm and LayerNorm.",
         "Dropout behind the last BatchNorm.", "momentum=0.9 for short runs."),
        "Ioffe and Szegedy (ICML 2015); Wu and He, Group Normalization (ECCV 2018); Li et al., Disharmony between "
        "Dropout and Batch Normalization (CVPR 2019).",
        also=("mode_bug",),
    ),
    Code(
        "mode_bug", "training and inference mode do not differ as they should", ("check",),
        "Outputs in both modes on the same batch; whether they differ without dropout or batch statistics, whether "
        "dropout acts at inference, whether the model is left in training mode.",
        "What is evaluated is then another model than the one that was trained.",
        ("Call model.eval() before inference by hand; fit, evaluate and predict choose by themselves.",
         "Take the mode from the argument training of call(), not from a flag of your own."),
        "PyTorch documentation, Module.eval; Humbatova et al. (ICSE 2020).", also=("batchnorm_misuse",),
    ),
    Code(
        "output_ignores_input", "the output is the same whatever the input", ("check",),
        "Outputs for a batch and for the same batch zeroed or shuffled.",
        "Nothing about the inputs can be learned: a broken data path, dead units, or weights of zero.",
        ("Follow the data through the model: model.summary(), and each layer's output on two different rows.",
         "Use the input in call(), not a constant of the same shape."),
        "Karpathy, A Recipe for Training Neural Networks (2019): input-independent baseline.", "error",
        also=("symmetric_init", "dead_relu"),
    ),
    Code(
        "batch_leak", "one row's output depends on other rows of the batch", ("check",),
        "Gradient of one sample's output by the inputs of the other samples, in inference mode: not 0.",
        "A reshape or a sum over the wrong axis mixes samples; the model learns from its neighbours, and gives another "
        "answer when a row comes alone.",
        ("Use transpose instead of reshape to swap axes; reduce over axes behind the first only.",
         "Normalize over features (axis -1), not over the batch (axis 0)."),
        "Karpathy, A Recipe for Training Neural Networks (2019): use backprop to chart dependencies.", "error",
        picture=r"""
   input rows      output rows
     0  ---------->  0
     1  --.  .---->  1
     2  ---\/----->  2        1 reaches 2, and 2 reaches 1
""",
    ),
    Code(
        "wrong_gradient", "an operation's backward disagrees with finite differences", ("check",),
        "Derivative from the tape and from differences (f(x + h) - f(x - h)) / 2h, along a random direction.",
        "The optimizer goes where a wrong derivative points; the loss may still fall a little, which hides it.",
        ("Compare backward with the formula; db.gradcheck(f, inputs) shows the wrong elements.",),
        "CS231n, gradient checks (1e-2: probably wrong); Baydin et al. (JMLR 2018).", "error",
    ),
    Code(
        "underfitting", "the model cannot fit what it is shown", ("check", "epoch"),
        "Before training: a copy cannot learn a handful of rows by heart. In training: poor and near-equal loss on "
        "both parts.",
        "A model that cannot learn 16 rows has a broken part, too little capacity, or a rate or penalty that forbids "
        "it; more data will not help.",
        ("See the findings above it first: a wrong loss, labels, init or rate explains it.",
         "A larger layer or one more.", "Less penalty and dropout.", "Train longer, or with a better rate."),
        "Karpathy, A Recipe for Training Neural Networks (2019): overfit one batch; CS231n.",
        also=("learning_rate_too_low", "regularization_too_strong", "not_learning"),
    ),
)
