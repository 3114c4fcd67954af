"""Codes that are seen at steps: numbers, gradients, activations, updates."""

from __future__ import annotations

from deepbabysit.babysit.codes.code import Code

CODES: tuple[Code, ...] = (
    Code(
        "nan_loss", "the loss is NaN or infinite", ("step",),
        "The loss of a step is not finite.",
        "One update with such a loss makes every weight NaN; nothing after it means anything.",
        ("Lower the learning rate by 10.", "Clip gradients: clip_norm=1.0.",
         "Look for logarithms, divisions and roots of 0 in your own loss and layers.", "Look at the inputs."),
        "Goodfellow et al., Deep Learning (2016), sec. 11.5; Zhang et al., AUTOTRAINER (ICSE 2021).", "error",
        also=("nan_in_layer", "learning_rate_too_high", "exploding_gradient"),
    ),
    Code(
        "nan_in_layer", "a layer or operation produced NaN or infinity", ("step",),
        "The first layer, operation and rows of the batch whose activation, gradient or weight is not finite.",
        "This is where the NaN begins; everything behind it is consequence.",
        ("Lower the learning rate by 10 and clip gradients: clip_norm=1.0.",
         "Guard the operation: log(x + 1e-7), x / max(d, 1e-7), sqrt(x + 1e-12)."),
        "Wardat et al., DeepLocalize (ICSE 2021).", "error", also=("nan_loss", "nan_in_data"),
    ),
    Code(
        "loss_diverging", "the loss grows without end", ("step",),
        "Loss against the smallest loss so far, over several checks.",
        "Each step overshoots the minimum by more than it came from; it ends in NaN.",
        ("Lower the learning rate by 3 to 10.", "Warm up: db.schedules.warmup.", "Clip gradients: clip_norm=1.0."),
        "Smith, Cyclical Learning Rates (WACV 2017): stop at 4 times the best; Schoop et al., UMLAUT (CHI 2021).",
        "error",
        picture=r"""
  loss |                     .'
       |                  .'
       |'.             .-'
       |  '-..___..--'
       +---------------------- step
""",
        also=("learning_rate_too_high", "exploding_gradient", "nan_loss"),
    ),
    Code(
        "loss_spike", "single losses jump far above their neighbours", ("step",),
        "A loss above twice the running mean, that comes back.",
        "A rare batch, or a rate at the edge of stability, throws the weights about.",
        ("Clip at the 90th percentile of the gradient norms seen: clip_norm=...",
         "Look at the rows of that batch.", "A somewhat lower rate."),
        "Pascanu, Mikolov, Bengio (ICML 2013); Chowdhery et al., PaLM (2022), sec. 5.1.", "note",
        also=("learning_rate_too_high",),
    ),
    Code(
        "vanishing_gradient", "gradients shrink on their way to the first layers", ("step",),
        "Gradient size of the first layers against that of the last.",
        "The first layers hardly move: the network learns on top of random features.",
        ("ReLU or its family instead of sigmoid and tanh.", "The initializer that belongs to the activation.",
         "BatchNorm or LayerNorm between layers.", "Residual connections."),
        "Hochreiter (1991); Bengio, Simard, Frasconi (1994); Zhang et al., AUTOTRAINER (ICSE 2021).", "warning",
        picture=r"""
  |gradient|    .     :     |     #     ##    ###
  layer         1     2     3     4     5     6
""",
        also=("bad_init_scale", "saturated_activation", "dead_relu"),
    ),
    Code(
        "exploding_gradient", "gradients grow on their way to the first layers, or without end", ("step",),
        "Gradient size of the first layers against the last, and its growth over steps.",
        "One such step undoes all steps before it.",
        ("Clip gradients: clip_norm=1.0.", "Lower the learning rate.", "The initializer that belongs to the "
         "activation; normalization between layers.", "Scale inputs and targets."),
        "Pascanu, Mikolov, Bengio (ICML 2013); Zhang et al., AUTOTRAINER (ICSE 2021).",
        also=("bad_init_scale", "learning_rate_too_high", "target_not_normalized"),
    ),
    Code(
        "dead_relu", "units give 0 for every sample", ("step",),
        "Units of a ReLU layer whose output is 0 and whose gradient is 0 for a whole batch, several times.",
        "Such a unit gets no gradient, so it never comes back: capacity is lost.",
        ("Lower the learning rate: a step too large threw the biases down.",
         "kernel_initializer='he_normal' and biases of 0.", "activation='leaky_relu'.", "Scale the inputs."),
        "Lu et al., Dying ReLU and Initialization (2019); Maas et al. (2013); SageMaker Debugger, rule dead_relu.",
        picture=r"""
   y |        /
     |       /            every sample falls here: y = 0, slope 0
     |______/____ z       <-----|
""",
        also=("learning_rate_too_high", "bad_bias_init", "input_not_normalized"),
    ),
    Code(
        "saturated_activation", "sigmoid or tanh units sit on their flat parts", ("step",),
        "Share of a layer's values where the slope of the activation is nearly 0.",
        "No slope, no gradient: these units and all before them stop learning.",
        ("Scale the inputs.", "kernel_initializer='glorot_uniform'.", "A lower rate.", "BatchNorm before the "
         "activation, or ReLU."),
        "Glorot and Bengio (AISTATS 2010); SageMaker Debugger, rules saturated_activation and tanh.",
        picture=r"""
  1 |        ______xxxxx
    |      .'
    |    .'                 xxxxx: slope near 0
    |xxxx------------- z
""",
        also=("bad_init_scale", "input_not_normalized", "vanishing_gradient"),
    ),
    Code(
        "update_too_large", "a step changes weights by a large part of themselves", ("step",),
        "Norm of the update over the norm of the weights of a layer; 1e-3 is usual.",
        "The layer forgets what it knew within a few steps.",
        ("Lower the learning rate by the factor that brings the ratio to 1e-3.", "Warm up.", "Clip gradients."),
        "CS231n, ratio of weights to updates; Karpathy, Building micrograd / makemore (2022).",
        also=("learning_rate_too_high",),
    ),
    Code(
        "update_too_small", "steps hardly change the weights", ("step",),
        "Norm of the update over the norm of the weights of a layer; 1e-3 is usual.",
        "At this pace the layer needs a hundred times the steps.",
        ("Raise the learning rate by 3 to 10.", "See that the gradient arrives (vanishing_gradient)."),
        "CS231n, ratio of weights to updates.", "note", also=("learning_rate_too_low", "vanishing_gradient"),
    ),
    Code(
        "learning_rate_too_high", "the learning rate is too high", ("step", "epoch"),
        "Divergence, oscillation or dead units together with large updates; confirmed by a short range test.",
        "Beyond 2 / (largest curvature) a gradient step moves uphill.",
        ("Use the rate that the range test found, or a tenth of this one.", "A schedule: db.schedules.cosine.",
         "Warm up over the first few hundred steps."),
        "Smith, Cyclical Learning Rates (WACV 2017); Goodfellow et al. (2016), sec. 11.4.1.", "error",
        picture=r"""
  loss |  too high: jumps and grows        loss |  range test
       | /\  /\/                                |----.       /
       |/  \/                                   |     '.    /
       |     about right                        |       '._/
       |'-.________                             +-------^------ rate
       +------------ step                          take this
""",
        also=("loss_diverging", "oscillating_loss", "update_too_large"),
    ),
    Code(
        "learning_rate_too_low", "the learning rate is too low", ("step", "epoch"),
        "A loss that falls steadily and slowly together with tiny updates; confirmed by a short range test.",
        "The run ends long before the minimum: the time is spent and the model is not trained.",
        ("Use the rate that the range test found, or ten times this one.", "Adam or momentum."),
        "Smith, Cyclical Learning Rates (WACV 2017); Goodfellow et al. (2016), sec. 11.4.1.", "warning",
        also=("not_learning", "update_too_small", "stopped_too_early"),
    ),
    Code(
        "unchanged_weights", "a trainable parameter never changes", ("step",),
        "Bit equality of a trainable tensor over several checks.",
        "Either the optimizer does not hold it, no gradient reaches it, or its updates round to nothing.",
        ("Hand all parameters to the optimizer.", "See that call() uses the layer.",
         "Freeze on purpose: model.freeze(path)."),
        "SageMaker Debugger, rule unchanged_tensor; Schoop et al., UMLAUT (CHI 2021).",
        also=("vanishing_gradient", "dead_relu"),
    ),
    Code(
        "missing_zero_grad", "gradients add up from step to step", ("step",),
        "In a loop written by hand: the gradient of a step contains that of the step before.",
        "Every step repeats all earlier ones: a growing momentum that nobody asked for, until it diverges.",
        ("Call optimizer.zero_grad() once per step, before backward().",),
        "Karpathy, most common neural net mistakes (2018).", "error", also=("exploding_gradient", "loss_diverging"),
    ),
    Code(
        "memory_growth", "memory grows with every step", ("step",),
        "Memory in use at the same point of successive steps.",
        "Something keeps the graph of old steps alive; the run ends when memory does.",
        ("Keep numbers, not tensors: losses.append(loss.item()).", "Detach what you carry along: state.detach().",
         "Do not store outputs that require gradients."),
        "PyTorch documentation, FAQ: my model reports CUDA out of memory; pytorch/pytorch#17568.",
    ),
    Code(
        "wrong_optimizer", "another optimizer does far better on this problem", ("epoch",),
        "A short run from the same state with Adam against this one.",
        "Plain gradient descent has one rate for all weights; where gradients differ by orders of magnitude it crawls.",
        ("The optimizer and the rate of the side run that won.", "Momentum 0.9 with SGD."),
        "Schmidt, Schneider, Hennig, Descending through a Crowded Valley (ICML 2021).",
        also=("learning_rate_too_low", "not_learning"),
    ),
    Code(
        "batch_too_small", "the batch is small against the noise of the gradient", ("epoch",),
        "Gradient noise scale (variance of a sample's gradient over the squared norm of the mean) against the batch.",
        "Steps go in random directions: the loss jitters and the rate has to be kept low.",
        ("A larger batch, or accumulate=4.", "A lower rate, or a decay of it."),
        "McCandlish et al., An Empirical Model of Large-Batch Training (2018).", "note", also=("oscillating_loss",),
    ),
    Code(
        "batch_too_large", "the batch is large against the noise of the gradient", ("epoch",),
        "Gradient noise scale against the batch; few updates per epoch.",
        "Doubling the batch no longer makes a step better: there are only fewer of them.",
        ("A smaller batch (32 to 256).", "Or a higher rate, with warm-up, and more epochs."),
        "McCandlish et al. (2018); Keskar et al., On Large-Batch Training (ICLR 2017).", "note",
        also=("not_learning", "stopped_too_early"),
    ),
)
