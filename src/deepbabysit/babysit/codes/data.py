"""Codes about data, labels and splits."""

from __future__ import annotations

from deepbabysit.babysit.codes.code import Code

CODES: tuple[Code, ...] = (
    Code(
        "nan_in_data", "inputs or labels hold NaN or infinity", ("check",),
        "Cells that are not finite, with the numbers of their rows.",
        "One NaN in a batch makes the loss NaN and, one update later, every weight.",
        ("Remove the rows, or fill the cells with statistics of the training rows: db.data.MeanImputer().",
         "Look where they come from: a division by zero, a logarithm of 0, a missing value code."),
        "Goodfellow, Bengio, Courville, Deep Learning (2016), ch. 11; SageMaker Debugger, rule nan_inf.", "error",
        also=("nan_loss", "nan_in_layer"),
    ),
    Code(
        "input_not_normalized", "features have very different scales, or large values", ("check",),
        "Standard deviation, range and mean of each feature against the others and against 1; images from 0 to 255.",
        "A gradient is proportional to its input, so one learning rate cannot suit features that differ by 10 times; "
        "large means slow all units of the first layer together.",
        ("Scale with statistics of the training rows: db.data.ZScore().fit(x_train), the same for all parts.",
         "Images: divide by 255.", "Or begin the model with BatchNorm."),
        "LeCun, Bottou, Orr, Mueller, Efficient BackProp (1998), sec. 4.3; Schoop et al., UMLAUT (CHI 2021).",
        picture=r"""
  loss over two weights, features of different scale      the same, scaled

      _________________________________________               ______
     (   (     (          .         )     )    )             / ____ \
      -----------------------------------------             | ( .  ) |
      steps jump across, and crawl along                     \______/  straight down
""",
        also=("input_normalized_twice", "target_not_normalized"),
    ),
    Code(
        "input_normalized_twice", "inputs are tiny: probably scaled twice", ("check",),
        "All values within a few hundredths of each other, such as 0..1/255, or a standard deviation below 0.01.",
        "Signals start far below 1 and so do the gradients of the first layer; learning is slow there.",
        ("Remove one of the two scalings.", "Scale once: db.data.ZScore().fit(x_train)."),
        "Humbatova et al., Taxonomy of Real Faults in Deep Learning Systems (ICSE 2020): preprocessing faults.",
        also=("input_not_normalized",),
    ),
    Code(
        "target_not_normalized", "the regression target is far from unit scale", ("check",),
        "Mean and standard deviation of the target against 1.",
        "With mean squared error the first gradients grow with the size of the target; a rate that suits weights of "
        "size 0.1 then throws them far away, and the output bias has a long way to go.",
        ("Scale the target with training statistics and undo it in predictions: db.data.ZScore().",
         "Or start the last bias at the target's mean."),
        "LeCun et al., Efficient BackProp (1998), sec. 4.5; Karpathy, A Recipe for Training Neural Networks (2019).",
        also=("exploding_gradient", "bad_bias_init"),
    ),
    Code(
        "constant_feature", "a feature has one value everywhere", ("check",),
        "Columns with standard deviation 0 among the rows looked at.",
        "It carries no information; scaled with a spread from elsewhere it can become huge on new data.",
        ("Drop the column, or see why it is empty.",),
        "Google, Rules of Machine Learning; Deepchecks, check is_single_value.", "note",
    ),
    Code(
        "duplicate_rows", "many rows are exact copies of others", ("check",),
        "Share of rows that are equal in inputs and target.",
        "Copies count double in the loss, and split at random they stand on both sides of the split.",
        ("Remove copies before splitting: numpy.unique(x, axis=0).",
         "Where they are real repeats, keep copies together in one part."),
        "Deepchecks, check data_duplicates.", "note", also=("split_leak", "conflicting_labels"),
    ),
    Code(
        "conflicting_labels", "equal inputs have different labels", ("check",),
        "Rows whose inputs are equal bit by bit and whose labels differ.",
        "No function of the inputs can be right about them: they bound the accuracy that can be reached.",
        ("Look at these rows: a labelling error, or a feature that was lost.", "Remove them or decide by majority."),
        "Deepchecks, check conflicting_labels; Northcutt et al., Confident Learning (JAIR 2021).",
        also=("duplicate_rows", "corrupted_labels"),
    ),
    Code(
        "class_imbalance", "some classes are much rarer than others", ("check",),
        "Counts of the largest and smallest class; a ratio above 10.",
        "Always saying the common class already looks accurate, so accuracy says little and rare classes may never "
        "be learned.",
        ("Weigh classes: fit(..., class_weight={class: rows / (classes * count)}).",
         "Watch recall or AUC per class instead of accuracy.", "Sample the rare class more often."),
        "He and Garcia, Learning from Imbalanced Data (IEEE TKDE 2009); SageMaker Debugger, rule class_imbalance.",
        also=("class_collapse",),
    ),
    Code(
        "corrupted_labels", "labels have nothing to do with the inputs", ("check", "epoch", "end"),
        "A cheap probe (nearest neighbours, a linear model) is no better on the true pairing than on one with the rows "
        "of the input shuffled.",
        "A network can learn such data by heart and still knows nothing about new rows.",
        ("See that x and y are in the same order: every sort, filter and shuffle must move both.",
         "Look at ten rows with their labels by eye.", "Undo a shift: y[1:] against x[:-1]."),
        "Zhang et al., Understanding Deep Learning Requires Rethinking Generalization (ICLR 2017).", "warning",
        picture=r"""
   x  row 0   row 1   row 2   row 3            a shift by one row: each input
       |  \     |  \    |  \    |              learns its neighbour's label
   y  row 0   row 1   row 2   row 3
""",
        also=("conflicting_labels", "underfitting"),
    ),
    Code(
        "split_leak", "the same rows stand in training and validation data", ("check",),
        "Validation rows that are equal to a training row, beyond the copies that the data hold anyway.",
        "Validation then measures memory: it looks better than the model is, and early stopping comes too late.",
        ("Remove copies, then split again: db.data.split(x, y).", "Split by group (person, day, source), not by row.",
         "Augment after the split, the training part only."),
        "Kaufman et al., Leakage in Data Mining (ACM TKDD 2012); Deepchecks, check train_test_samples_mix.", "error",
        also=("duplicate_rows", "feature_leak", "suspicious_validation"),
    ),
    Code(
        "feature_leak", "one feature gives the label away", ("check",),
        "Score of one feature alone at predicting the label, far above what all the others reach.",
        "It is often the label under another name, or something written down after the fact; it will be missing when "
        "the model is used.",
        ("Ask when the value of this column is known; drop it if that is after the label.",),
        "Kaufman et al., Leakage in Data Mining (ACM TKDD 2012); Deepchecks, feature_label_correlation (0.8).",
        also=("split_leak",),
    ),
    Code(
        "split_drift", "training and validation data differ in distribution", ("check",),
        "Difference of each feature's distribution (Kolmogorov-Smirnov) and of the class shares, against what chance "
        "explains at this number of rows.",
        "Validation then measures the difference of the parts and not the model.",
        ("Shuffle and stratify: db.data.split(x, y, stratify='auto').",
         "Use the same fitted normalizer for both parts.", "Where time matters the drift is real: keep it, know it."),
        "Rabanser, Guennemann, Lipton, Failing Loudly (NeurIPS 2019).",
        also=("split_leak", "suspicious_validation"),
    ),
    Code(
        "unshuffled_rows", "rows are sorted by class and not shuffled", ("check",),
        "How many rows of one class follow each other, against chance and the size of a batch, where fit does not "
        "shuffle.",
        "The mean gradient of a batch then is that of one class: each step undoes what the steps before it learned, "
        "and the last class of the data wins.",
        ("Shuffle in each epoch: model.fit(..., shuffle=True), which is the default.",
         "Shuffle once before training: db.data.split does."),
        "Bottou, Stochastic Gradient Descent Tricks (2012), sec. 4.2; Bengio, Practical Recommendations (2012).",
        also=("class_collapse", "oscillating_loss"),
    ),
    Code(
        "target_out_of_range", "targets that the output cannot give", ("check",),
        "Class numbers below 0 or not below the number of outputs; targets outside the range of the last activation.",
        "Such a row can never be right; on a GPU a class number too large is a crash without a name.",
        ("Count classes from 0: y - y.min().", "Give the last layer one unit per class.",
         "For targets of any size use a linear output, or scale them into the activation's range."),
        "Humbatova et al., Taxonomy of Real Faults (ICSE 2020); pytorch/pytorch#1204.", "error",
        also=("wrong_loss_for_output",),
    ),
    Code(
        "slow_input", "the loop waits for data", ("step",),
        "Share of a step's time that is spent waiting for the next batch.",
        "The computation stands still meanwhile: the run takes longer for nothing.",
        ("Let the loader prepare more batches ahead: db.data.Loader(..., prefetch=4).",
         "Decode and scale once, before training.", "Keep the data in memory where they fit."),
        "SageMaker Debugger, rule io_bottleneck; PyTorch Profiler, DataLoader time.",
    ),
    Code(
        "suspicious_validation", "validation is much better than training, without a reason", ("epoch",),
        "Validation loss far below training loss, more than dropout, augmentation and the running mean explain.",
        "Unseen rows are not easier than seen ones: the parts overlap, are of another kind, or one is too small.",
        ("Look for equal rows in both parts (split_leak).", "Split again, shuffled and stratified.",
         "Evaluate the training rows in inference mode to compare like with like."),
        "keras-team/keras FAQ: why is training loss higher than testing loss; Kaufman et al. (2012).",
        also=("split_leak", "split_drift", "dropout_too_high"),
    ),
)
