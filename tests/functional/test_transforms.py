"""torch.func, forward-mode differentiation and tracers: right wherever F.cross_entropy is."""

import pytest
import torch
import torch.autograd.forward_ad as fwAD
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from tests.support.cases import LOSSES, loss_and_grad, make_label, make_logits

pytestmark = [
    pytest.mark.parametrize('name', LOSSES),
    pytest.mark.parametrize('kind', ['index', 'soft', 'unknown']),
]


def make(name, kind, **more):
    loss, _, kwargs = LOSSES[name]
    x, label = make_logits(5, 40), make_label(kind, 5, 40)
    return (lambda score, target: loss(score, target, **kwargs, **more)), x, label


@pytest.mark.parametrize('factor', [None, 'class_weight', 'pos_weight'])
def test_grad_and_vjp(name, kind, factor):
    more = {} if factor is None else {factor: torch.linspace(0.5, 2, 40, dtype=torch.float64)}
    loss, x, label = make(name, kind, **more)
    value, grad = loss_and_grad(loss, x, label)
    torch.testing.assert_close(torch.func.grad(loss)(x, label), grad)
    out, pull = torch.func.vjp(lambda score: loss(score, label), x)
    torch.testing.assert_close(out, value)
    torch.testing.assert_close(pull(torch.tensor(2.0, dtype=torch.float64))[0], 2 * grad)


def test_forward_mode(name, kind):
    loss, x, label = make(name, kind)
    _, grad = loss_and_grad(loss, x, label)
    tangent = make_logits(5, 40).flip(1)
    expected = (grad * tangent).sum()
    _, slope = torch.func.jvp(lambda score: loss(score, label), (x,), (tangent,))
    torch.testing.assert_close(slope, expected)
    with fwAD.dual_level():
        dual = fwAD.unpack_dual(loss(fwAD.make_dual(x, tangent), label))
    torch.testing.assert_close(dual.tangent, expected)


def test_gradients_of_single_images(name, kind):
    loss, x, label = make(name, kind)
    actual = torch.func.vmap(torch.func.grad(lambda s, t: loss(s[None], t[None])))(x, label)
    for image in range(5):
        _, alone = loss_and_grad(loss, x[image : image + 1], label[image : image + 1])
        torch.testing.assert_close(actual[image], alone[0])


# torch.jit.trace warns of every shape that is compared.
@pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning')
def test_tracers(name, kind):
    loss, x, label = make(name, kind)
    value, grad = loss_and_grad(loss, x, label)
    traced = make_fx(torch.func.grad(loss))(x, label)
    torch.testing.assert_close(traced(x, label), grad)
    traced = make_fx(loss)(x.flip(1), label)
    torch.testing.assert_close(traced(x, label), value)
    leaf = x.clone().requires_grad_()
    with FakeTensorMode() as mode:
        fake = loss(mode.from_tensor(leaf), mode.from_tensor(label))
        assert fake.shape == () and fake.requires_grad
    torch.testing.assert_close(torch.jit.trace(loss, (x.flip(1), label))(x, label), value)
