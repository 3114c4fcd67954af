"""What users see of Tensors: values, dtypes, indexing, interchange with NumPy, messages; and the derivative tools."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from deepbabysit.autograd import ops
from deepbabysit.autograd.function import Function
from deepbabysit.autograd.gradcheck import GradcheckError, gradcheck
from deepbabysit.autograd.parameter import Parameter
from deepbabysit.autograd.tensor import Tensor, tensor
from deepbabysit.autograd.transforms import grad, hessian_vector_product, value_and_grad
from deepbabysit.runtime.context import no_grad, surroundings
from deepbabysit.runtime.registry import find_device, shapes_device

CPU = find_device("cpu")


def leaf(values: Any) -> Tensor:
    return tensor(np.asarray(values, np.float64), requires_grad=True)


# -- making tensors, dtypes ------------------------------------------------------------------------------------------


def test_dtypes_of_new_tensors() -> None:
    assert tensor([1.0, 2.0]).dtype == np.float32
    assert tensor(np.array([1.0])).dtype == np.float64
    assert tensor(np.float64(1.0)).dtype == np.float64
    assert tensor([1, 2]).dtype == np.int64
    assert tensor([True]).dtype == np.bool_
    assert tensor(np.zeros(2, np.uint8)).dtype == np.uint8


@pytest.mark.parametrize("values", [["a"], np.array(["a"]), np.array([object()]), np.array([1j]), None])
def test_what_is_no_number_is_refused(values: Any) -> None:
    with pytest.raises(TypeError, match="a tensor holds numbers"):
        tensor(values)


def test_values_are_copied() -> None:
    source = np.ones(2)
    x = tensor(source)
    source[0] = 9.0
    assert x.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("make", "dtype"),
    [
        (lambda: tensor([1.0]) * 2, "float32"),
        (lambda: tensor([1.0]) * np.float64(2), "float32"),
        (lambda: tensor([1.0]) * np.array(2.0), "float64"),
        (lambda: tensor(np.ones(1)) * 2.5, "float64"),
        (lambda: tensor([1]) * 2, "int64"),
        (lambda: tensor([1]) * 2.5, "float32"),
        (lambda: 2.5 - tensor([1]), "float32"),
        (lambda: tensor([1]) / 2, "float32"),
        (lambda: tensor([4]) / tensor([2]), "float32"),
        (lambda: tensor([True]) + 1, "int64"),
        (lambda: tensor([True]).sum(), "int64"),
        (lambda: tensor(np.ones(2, np.uint8)).sum(), "int64"),
        (lambda: tensor([1.0]) < 2, "bool"),
        (lambda: tensor([1.0]) + tensor(np.ones(1)), "float64"),
        (lambda: tensor(np.ones(1, np.float16)) * 2.0, "float16"),
    ],
)
def test_dtypes_of_results(make: Any, dtype: str) -> None:
    assert make().dtype == dtype


def test_arithmetic_with_numbers_on_both_sides() -> None:
    x = tensor([2.0, 4.0])
    assert (1 - x).tolist() == [-1.0, -3.0]
    assert (8 / x).tolist() == [4.0, 2.0]
    assert (2**x).tolist() == [4.0, 16.0]
    assert (x**2).tolist() == [4.0, 16.0]
    assert (x**-1).tolist() == [0.5, 0.25]
    assert abs(-x).tolist() == [2.0, 4.0]
    assert (np.ones(2, np.float32) + x).tolist() == [3.0, 5.0]
    assert isinstance(np.ones(2) * x, Tensor)


# -- matrix products -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((3,), (3,)),
        ((3,), (3, 2)),
        ((4, 3), (3,)),
        ((4, 3), (3, 2)),
        ((5, 4, 3), (3,)),
        ((3,), (5, 3, 2)),
        ((5, 4, 3), (5, 3, 2)),
    ],
)
def test_matmul_takes_vectors_as_numpy_does(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal(left), rng.standard_normal(right)
    found = tensor(a) @ tensor(b)
    assert found.shape == (a @ b).shape
    np.testing.assert_allclose(found.numpy(), a @ b, rtol=1e-12)
    np.testing.assert_allclose((a @ tensor(b)).numpy(), a @ b, rtol=1e-12)
    assert gradcheck(lambda x, y: x @ y, [tensor(a), tensor(b)], order=2)


def test_matmul_messages() -> None:
    with pytest.raises(ValueError, match="for a number use"):
        tensor([1.0]) @ tensor(1.0)
    with pytest.raises(ValueError, match=r"\(2, 3\) @ \(2, 3\) do not fit: the last axis of the first has length 3"):
        tensor(np.ones((2, 3))) @ tensor(np.ones((2, 3)))


# -- indexing and immutability ---------------------------------------------------------------------------------------

KEYS: list[Any] = [
    1,
    -1,
    slice(1, 3),
    (0, 2),
    (slice(None), -1),
    (..., 0),
    (None, 1),
    slice(None, None, -1),
    (slice(None, None, 2), None),
    np.array([2, 0, 2]),
    [1, -1],
    np.array([True, False, True, False]),
    np.arange(12).reshape(4, 3) % 2 == 0,
]


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_indexing_as_numpy(key: Any) -> None:
    values = np.arange(12.0).reshape(4, 3)
    found = tensor(values)[key]
    np.testing.assert_array_equal(found.numpy(), values[key])
    x = leaf(values)
    (x[key] * x[key]).sum().backward()
    truth = np.zeros_like(values)
    np.add.at(truth, key, 2 * values[key])
    assert x.grad is not None
    np.testing.assert_array_equal(x.grad.numpy(), truth)


def test_one_element_is_an_array_of_the_backend() -> None:
    assert isinstance(tensor([1.0, 2.0])[1].data, np.ndarray)
    assert tensor([1.0, 2.0])[1].shape == ()


def test_indexing_messages() -> None:
    x = tensor(np.ones((2, 3)))
    with pytest.raises(IndexError, match="index 5 is outside axis 0 of length 2"):
        x[5]
    with pytest.raises(IndexError, match="too many indices"):
        x[0, 0, 0]
    with pytest.raises(IndexError, match="outside an axis of length 2"):
        x[[2]]
    with pytest.raises(IndexError, match="mask"):
        x[np.array([True, False, True])]
    with pytest.raises(TypeError, match="take_along_axis"):
        x[[0, 1], [1, 2]]


def test_tensors_do_not_change() -> None:
    x = tensor([1.0, 2.0])
    with pytest.raises(TypeError, match=r"x\[i\] = v is not possible"):
        x[0] = 3.0
    values = x.numpy()
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 3.0
    assert x.tolist() == [1.0, 2.0]


def test_iteration_length_truth() -> None:
    x = tensor(np.arange(6.0).reshape(3, 2))
    assert len(x) == 3
    assert [row.tolist() for row in x] == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    with pytest.raises(TypeError, match="no len"):
        len(tensor(1.0))
    with pytest.raises(TypeError):
        iter(tensor(1.0))
    with pytest.raises(ValueError, match=r"neither true nor false; use \.any"):
        bool(x > 1)
    assert bool(tensor([2.0]) > 1)
    assert [10, 20, 30][tensor(1)] == 20  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="only a tensor of whole numbers"):
        [10, 20][tensor(1.0)]  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="needs a tensor of one element"):
        x.item()


def test_views_of_views_and_zero() -> None:
    x = tensor(np.zeros((2, 3)))
    y = x.reshape(6).reshape(3, 2).T
    assert y.owner is x
    assert tensor(np.zeros(())).reshape(1).reshape(()).item() == 0.0


# -- interchange -----------------------------------------------------------------------------------------------------


def test_numpy_interchange() -> None:
    x = tensor([1.0, 2.0])
    assert np.asarray(x).tolist() == [1.0, 2.0]
    assert np.asarray(x, np.float64).dtype == np.float64
    assert np.array(x).flags.writeable
    assert np.mean(x) == 1.5
    assert np.concatenate([x, x]).tolist() == [1.0, 2.0, 1.0, 2.0]
    assert np.allclose(x, [1.0, 2.0])
    assert np.sum(x, axis=0) == 3.0
    assert f"{tensor(1.23456):.2f}" == "1.23"
    assert repr(tensor([1.0, 2.5])) == "Tensor([1. , 2.5], dtype=float32)"
    assert float(tensor(2.5)) == 2.5
    assert int(tensor(2)) == 2


def test_dlpack() -> None:
    x = tensor(np.arange(6.0).reshape(2, 3))
    other = np.from_dlpack(x)
    np.testing.assert_array_equal(other, x.numpy())
    np.testing.assert_array_equal(np.from_dlpack(x[1]), [3.0, 4.0, 5.0])
    assert np.from_dlpack(x[1, 2]).item() == 5.0


def test_dlpack_shares_for_reading_only() -> None:
    x = tensor(np.arange(4.0))
    shared = np.from_dlpack(x)
    assert np.shares_memory(shared, x.numpy())
    assert not shared.flags.writeable
    owned = np.from_dlpack(x, copy=True)
    owned[0] = 9.0
    assert x.numpy()[0] == 0.0

    class Old:
        """A consumer that knows no flags: it gets memory of its own."""

        def __init__(self, **asked: object) -> None:
            self.asked = asked

        def __dlpack__(self, **_: object) -> object:
            return x.__dlpack__(**self.asked)

        def __dlpack_device__(self) -> object:
            return x.__dlpack_device__()

    assert np.from_dlpack(Old()).tolist() == [0.0, 1.0, 2.0, 3.0]
    assert not np.shares_memory(np.from_dlpack(Old()), x.numpy())
    with pytest.raises(BufferError, match="may only read"):
        np.from_dlpack(Old(copy=False))
    with pytest.raises(BufferError, match="bfloat16 by DLPack"):
        tensor(np.ones(2, pytest.importorskip("ml_dtypes").bfloat16)).__dlpack__(max_version=(1, 0))


@pytest.mark.peers
def test_dlpack_with_torch() -> None:
    torch = pytest.importorskip("torch")
    x = tensor(np.arange(4.0))
    shared = torch.from_dlpack(x)
    assert shared.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert shared.data_ptr() == x.numpy().ctypes.data
    for dtype in (torch.float32, torch.float64, torch.float16, torch.int64, torch.uint8, torch.bool):
        theirs = torch.arange(6).reshape(2, 3).to(dtype)
        ours = tensor(theirs)
        assert str(ours.dtype) == str(dtype).removeprefix("torch.")
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
        theirs.zero_()
        assert ours.numpy().any()
        assert torch.equal(torch.from_dlpack(ours), torch.arange(6).reshape(2, 3).to(dtype))


@pytest.mark.peers
def test_dlpack_with_jax() -> None:
    numpy = pytest.importorskip("jax.numpy")
    x = tensor([1.0, 2.0, 3.0])
    assert numpy.from_dlpack(x).tolist() == [1.0, 2.0, 3.0]
    np.testing.assert_array_equal(tensor(numpy.arange(3.0)).numpy(), [0.0, 1.0, 2.0])


# -- messages --------------------------------------------------------------------------------------------------------


def test_messages_name_operation_layer_and_nearest() -> None:
    x = tensor(np.ones((2, 3)))
    with pytest.raises(
        ValueError, match=r"add: shapes \(2, 3\) and \(2,\) do not fit together: axis -1 has lengths 3 and 2"
    ):
        x + np.ones(2)
    with surroundings(scope="net.0"), pytest.raises(ValueError, match=r"^layer net\.0: add: shapes"):
        x + np.ones(2)
    with pytest.raises(AttributeError, match="did you mean 'softmax'"):
        ops.sofmax  # noqa: B018
    with pytest.raises(TypeError, match=r"did you mean 'axis'"):
        ops.softmax(x, axs=1)
    with pytest.raises(ValueError, match="axis 3 does not exist in an array of 2 axes"):
        x.sum(axis=3)
    with pytest.raises(ValueError, match=r"reshape: \(2, 3\) cannot become \(4,\)"):
        x.reshape(4)
    with pytest.raises(TypeError, match="symbolic"):
        Tensor(shapes_device().asarray(np.ones(2)), shapes_device()).numpy()


# -- grad and value_and_grad -----------------------------------------------------------------------------------------


def test_grad_of_any_order_by_nesting() -> None:
    def f(x: Tensor) -> Tensor:
        return x * x * x * x

    found = []
    g: Any = f
    for _ in range(4):
        g = grad(g)
        found.append(g(tensor(2.0)).item())
    assert found == [32.0, 48.0, 48.0, 24.0]


def test_grad_of_nested_values_and_argnums() -> None:
    weights = {"a": tensor([1.0, 2.0]), "rest": [tensor(3.0), (tensor([4]), None)]}

    def f(w: Any, x: Tensor) -> Tensor:
        return (w["a"] * x).sum() * w["rest"][0] * w["rest"][1][0].sum()

    value, (by_w, by_x) = value_and_grad(f, (0, 1))(weights, tensor([1.0, 1.0]))
    assert value.item() == 36.0
    assert by_w["a"].tolist() == [12.0, 12.0]
    assert by_w["rest"][0].item() == 12.0
    assert by_w["rest"][1] == (None, None)
    assert by_x.tolist() == [12.0, 24.0]
    assert grad(f, -1)(weights, tensor([1.0, 1.0])).tolist() == [12.0, 24.0]


def test_grad_takes_arrays_and_numbers() -> None:
    assert grad(lambda x: (x * x).sum())(np.array([1.0, 2.0])).tolist() == [2.0, 4.0]
    assert grad(lambda x: (x * x).sum())([1.0, 2.0]).tolist() == [2.0, 4.0]
    assert grad(lambda x: x * x)(3.0).item() == 6.0


def test_grad_leaves_no_traces() -> None:
    x = leaf([1.0, 2.0])
    w = Parameter(CPU.asarray(np.ones(2)), CPU, "w")
    with no_grad():
        g = grad(lambda v: (v * v * w).sum())(x)
    assert g.tolist() == [2.0, 4.0]
    assert not g.requires_grad
    assert x.grad is None
    assert w.grad is None
    assert not grad(lambda v: (v * v).sum())(tensor([1.0])).requires_grad


def test_gradient_penalty_reaches_captured_parameters() -> None:
    w = leaf([2.0])
    slope = grad(lambda v: (w * v * v).sum())(tensor(np.array([3.0])))
    (slope * slope).sum().backward()  # slope = 2 w v
    assert w.grad is not None
    assert w.grad.tolist() == [2 * 12.0 * 6.0]


def test_grad_through_an_outer_graph() -> None:
    x = leaf(2.0)
    y = grad(lambda v: v * v * v)(x) + grad(lambda v: v * x)(tensor(np.float64(7.0)))
    y.backward()  # 3 x^2 + x
    assert x.grad is not None
    assert x.grad.item() == 13.0


def test_inner_constants_of_nested_grads_do_not_mix() -> None:
    """The classic perturbation confusion: d/dx (x * d/dy (x + y)) = 1, not 2."""
    found = grad(lambda x: x * grad(lambda y: x + y)(tensor(np.float64(1.0))))(tensor(np.float64(1.0)))
    assert found.item() == 1.0


def test_what_has_no_influence_has_gradient_zero() -> None:
    a, b = grad(lambda a, b: (a * 2.0).sum(), (0, 1))(tensor([1.0]), tensor([[5.0, 6.0]]))
    assert a.tolist() == [2.0]
    assert b.tolist() == [[0.0, 0.0]]
    assert grad(lambda a: tensor(1.0))(tensor([1.0])).tolist() == [0.0]


def test_grad_messages() -> None:
    with pytest.raises(ValueError, match=r"must return one number; got shape \(2,\)"):
        grad(lambda x: x)(tensor([1.0, 2.0]))
    with pytest.raises(TypeError, match="argument 0 holds no floating numbers"):
        grad(lambda x: x.sum())(tensor([1, 2]))
    with pytest.raises(IndexError, match="argument 1 does not exist; 1 were given"):
        grad(lambda x: x.sum(), 1)(tensor([1.0]))
    with pytest.raises(ValueError, match="must return a Tensor"):
        grad(lambda x: 1.0)(tensor([1.0]))


def test_hessian_vector_product_against_the_hessian() -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((4, 4))
    x, v = rng.standard_normal(4), rng.standard_normal(4)
    truth = (a + a.T) @ v
    found = hessian_vector_product(lambda z: z @ tensor(a) @ z, tensor(x), tensor(v))
    np.testing.assert_allclose(found.numpy(), truth, rtol=1e-12)
    with pytest.raises(ValueError, match="form of x"):
        hessian_vector_product(lambda z: (z * z).sum(), tensor(x), tensor(v[:2]))


# -- gradcheck -------------------------------------------------------------------------------------------------------


class WrongExp(Function):
    def forward(self, x: Tensor) -> Tensor:
        y = x.exp()
        self.save(y)
        return y

    def backward(self, gradient: Tensor) -> Tensor:
        return gradient * self.saved[0] * 1.001


class WrongAtOne(Function):
    """Wrong by one element only."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 2.0

    def backward(self, gradient: Tensor) -> Tensor:
        bump = np.zeros(gradient.shape)
        bump[(1,) * gradient.ndim] = 1e-3
        return gradient * 2.0 + bump


def test_gradcheck_reports_the_worst_element() -> None:
    x = np.linspace(-1, 1, 6).reshape(2, 3)
    with pytest.raises(
        GradcheckError, match=r"by input 1 \(shape \(2, 3\)\) at \[1, 1\]: numeric .* analytic"
    ) as caught:
        gradcheck(lambda a, b: a + WrongAtOne()(b), [tensor(x), tensor(x)])
    number, index, numeric, analytic = caught.value.rows[0]
    assert (number, index) == (1, (1, 1))
    assert abs(analytic - numeric - 1e-3) < 1e-9
    assert isinstance(caught.value, AssertionError)


def test_gradcheck_finds_small_errors_elementwise_and_by_projection() -> None:
    x = tensor(np.random.default_rng(0).standard_normal((3, 4)))
    with pytest.raises(GradcheckError, match="first derivative"):
        gradcheck(WrongExp(), x)
    with pytest.raises(GradcheckError, match="first derivative"):
        gradcheck(WrongExp(), x, projections=1)
    large = tensor(np.random.default_rng(0).standard_normal((20, 30)))
    with pytest.raises(GradcheckError):
        gradcheck(WrongAtOne(), large)
    assert gradcheck(lambda v: v.tanh() * v.exp(), large, order=2)


class HidesSecond(Function):
    def forward(self, x: Tensor) -> Tensor:
        self.save(x)
        return x * x * x

    def backward(self, gradient: Tensor) -> Tensor:
        (x,) = self.saved
        return gradient * (x.detach() * x.detach() * 3.0)


def test_gradcheck_of_second_order() -> None:
    x = tensor(np.array([0.5, -1.5]))
    assert gradcheck(HidesSecond(), x)
    with pytest.raises(GradcheckError, match="second derivative"):
        gradcheck(HidesSecond(), x, order=2)


def test_gradcheck_ignores_what_has_no_gradient_and_refuses_when_nothing_has() -> None:
    assert gradcheck(lambda x, k: (x * 2.0, x > 0, k), [tensor([0.5, 1.0]), tensor([1, 2])])
    with pytest.raises(ValueError, match="no output depends"):
        gradcheck(lambda x: x > 0, tensor([1.0]))
    with pytest.raises(TypeError, match="no input holds floating"):
        gradcheck(lambda x: x, tensor([1]))
    with pytest.raises(ValueError, match="order is 1 or 2"):
        gradcheck(lambda x: x, tensor([1.0]), order=3)
