"""The hand model: equal to smplx's, right by its laws, any shape, and joints that never need vertices."""

import contextlib
import io
import math
import pickle
import warnings
from dataclasses import replace

import numpy as np
import pytest
import smplx
import torch
from smplx.utils import Struct
from torch import Tensor

from handdiff_lib import rotation
from handdiff_lib.hand import OPEN_HAND, TOGETHER, HandModel, InputError, hand_from_arrays, load_hand
from handdiff_lib.motion import HandMotion
from handdiff_lib.topology import CHAIN, FINGERS, JOINTS, OPENPOSE, PARENTS, TIPS


def smplx_model(kind: type, **options) -> torch.nn.Module:
    """smplx's own class on our arrays; what it prints and warns about is of no interest here."""
    with np.load(OPEN_HAND, allow_pickle=False) as file:
        arrays = Struct(**{key: file[key] for key in file.files})
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kind("", data_struct=arrays, is_rhand=True, **options)


def random_pose(shape: tuple[int, ...], generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Rotation vectors (..., 16, 3) of 0.5 rad a joint, betas of one standard deviation, translations of 0.2 m."""
    rotvec = 0.3 * torch.randn(*shape, 16, 3, generator=generator)
    betas = torch.randn(*shape, 10, generator=generator)
    return rotvec, betas, 0.2 * torch.randn(*shape, 3, generator=generator)


@pytest.mark.parametrize("flat", [True, False], ids=["flat", "with mean pose"])
def test_equal_to_smplx_mano(hand, generator, flat):
    """1,000 poses and shapes each; what smplx adds with flat_hand_mean=False we add at the door."""
    model = smplx_model(smplx.MANO, use_pca=False, flat_hand_mean=flat, batch_size=100)
    for _ in range(10):
        rotvec, betas, transl = random_pose((100,), generator)
        with torch.no_grad():
            theirs = model(betas=betas, global_orient=rotvec[:, 0], hand_pose=rotvec[:, 1:].flatten(1), transl=transl)
        if not flat:
            rotvec[:, 1:] += hand.hands_mean.view(15, 3)
        ours = hand.shape(betas).pose(rotation.exp(rotvec), transl)
        torch.testing.assert_close(ours.skin(), theirs.vertices, atol=1e-5, rtol=0)
        torch.testing.assert_close(ours.joints, theirs.joints[:, :16], atol=1e-5, rtol=0)


def test_equal_to_smplx_mano_layer(hand, generator):
    """Matrices in, nothing added: 1,000 poses and shapes."""
    model = smplx_model(smplx.MANOLayer)
    for _ in range(10):
        rotvec, betas, transl = random_pose((100,), generator)
        R = rotation.exp(rotvec)
        with torch.no_grad():
            theirs = model(betas=betas, global_orient=R[:, :1], hand_pose=R[:, 1:], transl=transl)
        ours = hand.shape(betas).pose(R, transl)
        torch.testing.assert_close(ours.skin(), theirs.vertices, atol=1e-5, rtol=0)
        torch.testing.assert_close(ours.joints, theirs.joints[:, :16], atol=1e-5, rtol=0)


def test_tips_are_where_smplx_looks():
    from smplx.vertex_ids import vertex_ids

    names = {"little": "pinky"}
    assert TIPS["smplx"] == tuple(vertex_ids["mano"][names.get(finger, finger)] for finger in FINGERS)


def test_the_identity_is_the_rest_pose(hand):
    rest = hand.mean_shape()
    posed = rest.pose(torch.eye(3).expand(16, 3, 3))
    torch.testing.assert_close(posed.joints, hand.J_template)
    torch.testing.assert_close(posed.skin(), hand.v_template)


def test_a_shape_number_moves_joints_as_it_moves_the_skin(hand, generator):
    """Rest joints from J_shapedirs equal the regressor applied to the shaped vertices."""
    betas = torch.randn(4, 10, generator=generator)
    shaped = hand.shape(betas)
    vertices = shaped.pose(torch.eye(3).expand(4, 16, 3, 3)).skin()
    torch.testing.assert_close(shaped.rest_joints, hand.J_regressor @ vertices)


def test_a_quarter_turn_at_the_knuckle_swings_the_finger(hand):
    """Turn index1 by 90 degrees about z: what lies at (x, y) from the knuckle goes to (-y, x)."""
    R = torch.eye(3).repeat(16, 1, 1)
    R[JOINTS.index("index1")] = rotation.exp(torch.tensor([0.0, 0.0, math.pi / 2]))
    rest, bent = hand.J_template, hand.mean_shape().pose(R).joints
    a, b, c = CHAIN["index"]
    for joint in (b, c):
        x, y, z = rest[joint] - rest[a]
        torch.testing.assert_close(bent[joint] - bent[a], torch.stack([-y, x, z]))
    others = [j for j in range(16) if j not in (b, c)]
    torch.testing.assert_close(bent[others], rest[others])


def test_positive_z_flexes_and_the_thumb_lies_at_plus_z(hand):
    """Fingers along -x, back of the hand +y: bent fingers go down to the palm."""
    R = torch.eye(3).repeat(16, 1, 1)
    for finger in ("index", "middle", "ring", "little"):
        R[CHAIN[finger][0]] = rotation.exp(torch.tensor([0.0, 0.0, 1.0]))
    rest = hand.mean_shape().pose(torch.eye(3).expand(16, 3, 3)).tips()
    bent = hand.mean_shape().pose(R).tips()
    assert (rest[1:, 0] < hand.J_template[0, 0]).all()
    assert (bent[1:, 1] < rest[1:, 1] - 0.03).all()
    assert rest[0, 2] > rest[1:, 2].max()


def test_the_whole_hand_turns_about_the_wrist(hand, generator):
    """Vertices follow a turn and a shift of the whole as a rigid body; the wrist joint only shifts."""
    rotvec, betas, transl = random_pose((6,), generator)
    R, Q = rotation.exp(rotvec), rotation.exp(torch.randn(6, 3, generator=generator))
    before = hand.shape(betas).pose(R)
    turned = hand.shape(betas).pose(torch.cat([Q[:, None] @ R[:, :1], R[:, 1:]], 1), transl)
    wrist = before.joints[:, :1]
    expected = (before.skin() - wrist) @ Q.mT + wrist + transl[:, None]
    torch.testing.assert_close(turned.skin(), expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(turned.joints[:, 0], before.joints[:, 0] + transl)


def test_bones_keep_their_length(hand, generator):
    rotvec, betas, transl = random_pose((20,), generator)
    shaped = hand.shape(betas)
    posed = shaped.pose(rotation.exp(rotvec), transl)
    child, parent = list(range(1, 16)), list(PARENTS[1:])
    length = (posed.joints[:, child] - posed.joints[:, parent]).norm(dim=-1)
    torch.testing.assert_close(length, (shaped.rest_joints[:, child] - shaped.rest_joints[:, parent]).norm(dim=-1))


def test_joints_equal_the_slow_twin(hand, generator):
    """Walk from each joint up to the wrist, one point at a time."""
    rotvec, betas, transl = random_pose((), generator)
    R, J = rotation.exp(rotvec), hand.shape(betas).rest_joints
    for joint in range(16):
        point, at = J[joint], PARENTS[joint]
        while at >= 0:
            point = R[at] @ (point - J[at]) + J[at]
            at = PARENTS[at]
        torch.testing.assert_close(hand.shape(betas).pose(R, transl).joints[joint], point + transl)


@pytest.mark.parametrize("tips", list(TIPS))
def test_tips_are_the_skinned_vertices(hand, generator, tips):
    rotvec, betas, transl = random_pose((5,), generator)
    posed = hand.shape(betas).pose(rotation.exp(rotvec), transl)
    torch.testing.assert_close(posed.tips(tips), posed.skin()[:, list(TIPS[tips])])
    expected = torch.cat([posed.joints, posed.tips(tips)], 1)[:, list(OPENPOSE)]
    torch.testing.assert_close(posed.joints21(tips), expected)


def test_joints21_goes_along_each_finger(hand):
    """Wrist, then base to tip: thumb 1-4, index 5-8, middle 9-12, ring 13-16, little 17-20."""
    posed = hand.mean_shape().pose(torch.eye(3).expand(16, 3, 3))
    joints = posed.joints21()
    for n, finger in enumerate(FINGERS):
        torch.testing.assert_close(joints[1 + 4 * n : 4 + 4 * n], posed.joints[list(CHAIN[finger])])
        torch.testing.assert_close(joints[4 + 4 * n], posed.tips()[n])


def test_joints_never_touch_vertices(hand, generator):
    """With pose corrections and weights of NaN the joints are right all the same; the skin is not."""
    spoilt = replace(
        hand, posedirs=torch.full_like(hand.posedirs, math.nan), weights=torch.full_like(hand.weights, math.nan)
    )
    rotvec, betas, transl = random_pose((3,), generator)
    posed = spoilt.shape(betas).pose(rotation.exp(rotvec), transl)
    torch.testing.assert_close(posed.joints, hand.shape(betas).pose(rotation.exp(rotvec), transl).joints)
    assert posed.skin().isnan().all()


def test_joints_need_no_template_once_the_rest_joints_are_known(hand, generator):
    """After the first use, J_template and J_shapedirs are kept: spoiling the vertices changes no joint."""
    model = hand.to("cpu", torch.float64)
    expected = model.shape(torch.ones(10, dtype=torch.float64)).rest_joints
    model.v_template.fill_(math.nan)
    model.shapedirs.fill_(math.nan)
    torch.testing.assert_close(model.shape(torch.ones(10, dtype=torch.float64)).rest_joints, expected)


def test_only_the_tips_are_skinned_for_tips(hand, generator):
    """All other 773 vertices may be NaN."""
    keep = torch.zeros(778, dtype=torch.bool)
    keep[list(TIPS["smplx"])] = True
    spoilt = replace(hand, posedirs=hand.posedirs.where(keep[:, None, None], torch.tensor(math.nan)))
    rotvec, betas, transl = random_pose((3,), generator)
    R = rotation.exp(rotvec)
    torch.testing.assert_close(spoilt.shape(betas).pose(R, transl).tips(), hand.shape(betas).pose(R, transl).tips())


@pytest.mark.parametrize("shape", [(), (3,), (2, 5), (2 * TOGETHER + 3,), (3, TOGETHER)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_any_batch_shape_and_dtype(hand, generator, shape, dtype):
    """A batch is its members, one by one."""
    model = hand.to(dtype=dtype)
    rotvec, betas, transl = (x.to(dtype) for x in random_pose(shape, generator))
    R = rotation.exp(rotvec)
    posed = model.shape(betas).pose(R, transl)
    assert posed.skin().shape == (*shape, 778, 3)
    assert posed.joints21().shape == (*shape, 21, 3)
    assert posed.skin().dtype == posed.joints21().dtype == dtype
    last = (-1,) * len(shape)
    alone = model.shape(betas[last]).pose(R[last], transl[last])
    torch.testing.assert_close(posed.skin()[last], alone.skin())
    torch.testing.assert_close(posed.joints21()[last], alone.joints21())


def test_one_shape_serves_many_poses(hand, generator):
    rotvec, betas, transl = random_pose((4,), generator)
    R = rotation.exp(rotvec)
    one = hand.shape(betas[0]).pose(R, transl)
    each = hand.shape(betas[:1].expand(4, -1)).pose(R, transl)
    torch.testing.assert_close(one.skin(), each.skin())
    torch.testing.assert_close(one.joints21(), each.joints21())


def test_some_of_many_hands_are_those_of_all(hand, generator):
    """Each with its own shape, or all with one."""
    rotvec, betas, transl = random_pose((12,), generator)
    R = rotation.exp(rotvec)
    for shape in (betas, betas[0]):
        posed = hand.shape(shape).pose(R, transl)
        torch.testing.assert_close(posed[5:9].skin(), posed.skin()[5:9])
        torch.testing.assert_close(posed[5:9].joints21(), posed.joints21()[5:9])


def small(hand: HandModel) -> HandModel:
    """A dozen of the vertices, tips excluded, in double precision; joints as before."""
    rows = torch.arange(0, 778, 65)
    model = hand.to(dtype=torch.float64)
    regressor = torch.zeros(16, len(rows), dtype=torch.float64)
    part = replace(
        model,
        v_template=model.v_template[rows],
        shapedirs=model.shapedirs[rows],
        posedirs=model.posedirs[rows],
        weights=model.weights[rows],
        J_regressor=regressor,
    )
    part.__dict__.update(J_template=model.J_template, J_shapedirs=model.J_shapedirs)  # what the properties would keep
    return part


def test_gradients_equal_finite_differences(hand, generator):
    """Through shape, joints and skin; at the rest pose too."""
    model = small(hand)
    rotvec, betas, transl = (x.double().requires_grad_() for x in random_pose((), generator))

    def skin(betas: Tensor, rotvec: Tensor, transl: Tensor) -> tuple[Tensor, Tensor]:
        posed = model.shape(betas).pose(rotation.exp(rotvec), transl)
        return posed.joints, posed.skin()

    assert torch.autograd.gradcheck(skin, (betas, rotvec, transl))
    assert torch.autograd.gradcheck(skin, (betas, torch.zeros_like(rotvec).requires_grad_(), transl))


def test_a_left_hand_is_the_mirror_image(hand, generator):
    """A left track stores what the mirror shows; its vertices and joints are the right hand's, x turned round."""
    rotvec, _, transl = random_pose((4,), generator)
    valid = torch.ones(4, dtype=torch.bool)
    right = HandMotion(rotation.exp(rotvec), torch.ones(10), transl, valid, fps=30.0, hand="open")
    left = replace(right, side="left")
    flip = torch.tensor([-1.0, 1, 1])
    torch.testing.assert_close(left.vertices(hand), right.vertices(hand) * flip)
    torch.testing.assert_close(left.joints(hand), right.joints(hand) * flip)


def test_a_real_left_hand_model_agrees_with_mirroring(hand, generator):
    """smplx with mirrored arrays and (a, -b, -c) poses, which is how a left hand is usually given."""
    with np.load(OPEN_HAND, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    flip = np.array([-1, 1, 1], np.float32)
    for key in ("v_template", "J"):
        arrays[key] = arrays[key] * flip
    arrays["shapedirs"] = arrays["shapedirs"] * flip[:, None]
    arrays["posedirs"] = arrays["posedirs"] * flip[:, None] * np.tile(np.outer(flip, flip).ravel(), 15)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = smplx.MANOLayer("", data_struct=Struct(**arrays), is_rhand=False)
    rotvec, betas, transl = random_pose((3,), generator)
    R_left, flip = rotation.exp(rotvec), torch.from_numpy(flip)
    with torch.no_grad():
        theirs = model(betas=betas, global_orient=R_left[:, :1], hand_pose=R_left[:, 1:], transl=transl)
    ours = hand.shape(betas).pose(rotation.mirror(R_left), transl * flip)
    torch.testing.assert_close(ours.skin() * flip, theirs.vertices, atol=1e-5, rtol=0)


def test_a_missing_file_names_the_cure(tmp_path):
    with pytest.raises(InputError, match=r"handdiff hand import MANO_RIGHT\.pkl"):
        load_hand(tmp_path / "mano.npz")


def test_the_name_is_open_for_the_open_hand_and_mano_for_any_other(tmp_path):
    assert load_hand().name == "open"
    for name, want in (("openhand.npz", "open"), ("mano.npz", "mano"), ("mano_right.npz", "mano")):
        copy = tmp_path / name
        copy.write_bytes(OPEN_HAND.read_bytes())
        assert load_hand(copy).name == want


@pytest.mark.parametrize("content", ["pickle", "cut short", "one array", "text"])
def test_a_file_that_is_no_hand_names_the_cure(tmp_path, content):
    path, raw = tmp_path / "MANO_RIGHT.pkl", io.BytesIO()
    np.save(raw, np.zeros((778, 3)))
    path.write_bytes(
        {
            "pickle": pickle.dumps({"f": np.zeros((1538, 3), np.uint32)}),
            "cut short": OPEN_HAND.read_bytes()[:100_000],
            "one array": raw.getvalue(),
            "text": b"not a hand",
        }[content]
    )
    with pytest.raises(InputError, match=r"is not a hand \.npz; make one with: handdiff hand import MANO_RIGHT\.pkl"):
        load_hand(path)


def test_a_missing_or_misshapen_array_is_named():
    with np.load(OPEN_HAND, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    with pytest.raises(InputError, match=r"weights has shape \(778, 15\), expected \(778, 16\)"):
        hand_from_arrays(arrays | {"weights": arrays["weights"][:, :15]}, "mine")
    del arrays["posedirs"]
    with pytest.raises(InputError, match="hand mine: key 'posedirs' is missing"):
        hand_from_arrays(arrays, "mine")
