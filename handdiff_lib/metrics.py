r"""How far a motion is from the truth, and how much it shakes.

Joint and rotation errors are values per frame; the mean is the caller's. Joints are metres in the 21-joint OpenPose
order, wrist first, with any leading shape: clips of one length are scored at once. The three numbers of DIP's tables
are MJE (`mje_mm`), P-MJE (`p_mje_mm`) and ACCL (`accel_error_mm`); all are blind to where the wrist is.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from handdiff_lib import rotation
from handdiff_lib.hand import HandModel
from handdiff_lib.motion import HandMotion, MotionError
from handdiff_lib.topology import FREE, STATES


def mje_mm(pred: Float[Tensor, "*b t k 3"], truth: Float[Tensor, "*b t k 3"]) -> Float[Tensor, "*b t"]:
    """Mean joint error with both wrists (joint 0) put on one point, mm, averaged over joints, the wrist included."""
    return joint_error_mm(from_wrist(pred), from_wrist(truth))


def joint_error_mm(pred: Float[Tensor, "*b k 3"], truth: Float[Tensor, "*#b k 3"]) -> Float[Tensor, "*b"]:
    """Mean distance of joints as they stand, mm."""
    return 1000 * (pred - truth).norm(dim=-1).mean(-1)


def p_mje_mm(pred: Float[Tensor, "*b t k 3"], truth: Float[Tensor, "*b t k 3"]) -> Float[Tensor, "*b t"]:
    """Mean joint error after the best rotation, scale and shift of each frame, mm: only the pose's shape counts."""
    return joint_error_mm(align(pred, truth), truth)


def p_mje_official_mm(pred: Float[Tensor, "*b t k 3"], truth: Float[Tensor, "*b t k 3"]) -> Float[Tensor, "*b t"]:
    """`p_mje_mm` where the rotation may also be a reflection, as the DexYCB and HO3D evaluators allow: never larger."""
    return joint_error_mm(align(pred, truth, may_reflect=True), truth)


def align(
    pred: Float[Tensor, "*b t k 3"], truth: Float[Tensor, "*b t k 3"], may_reflect: bool = False
) -> Float[Tensor, "*b t k 3"]:
    r"""`pred` moved onto `truth` frame by frame: $s R (p - \bar p) + \bar g$ with the least squared error.

    $R = U D V^\top$ from the SVD of $\sum_k (g_k - \bar g)(p_k - \bar p)^\top$; $D$ flips the weakest axis when needed
    to keep $\det R = 1$. A prediction with all joints on one point goes to the centre of the truth.
    """
    proper, official = align_both_ways(pred, truth)
    return official if may_reflect else proper


def align_both_ways(
    pred: Float[Tensor, "*b t k 3"], truth: Float[Tensor, "*b t k 3"]
) -> tuple[Float[Tensor, "*b t k 3"], Float[Tensor, "*b t k 3"]]:
    """`align` without and with reflections, from one SVD; where none is better, the two are one."""
    p, g = (points.mT.contiguous() for points in (pred, truth))  # each axis in a row: sums are faster so
    p, centre = p - p.mean(-1, keepdim=True), g.mean(-1, keepdim=True)
    U, S, Vh = torch.linalg.svd((g - centre) @ p.mT)
    size2 = torch.linalg.matrix_norm(p).square().clamp(min=torch.finfo(pred.dtype).tiny)

    def moved(flip: Tensor) -> Tensor:
        scale = (S * flip).sum(-1) / size2
        R = U * flip[..., None, :] @ Vh
        return (scale[..., None, None] * R @ p + centre).mT

    none = torch.ones_like(S)
    flip = torch.cat([none[..., :2], torch.linalg.det(U @ Vh).sign()[..., None]], dim=-1)
    proper = moved(flip)
    return proper, proper if (flip > 0).all() else moved(none)


AUC_MM, AUC_STEPS = 50, 100
"""The area lies between 0 and 50 mm and is a sum over 100 thresholds, both ends included."""


def auc(pred: Float[Tensor, "*b t k 3"], truth: Float[Tensor, "*b t k 3"]) -> Float[Tensor, "*b t"]:
    """Area under the share of points within 0 to 50 mm, 1 at best, of points as they stand: align them before.

    The convention of the DexYCB and HO3D evaluators: 100 thresholds from 0 to 50 mm, a point on a threshold is within,
    trapezoids, divided by 50 mm. Their mean over points and frames is the mean of these values. It is close to one
    minus the mean of the error, cut off at 50 mm, over 50 mm.
    """
    thresholds = torch.linspace(0, AUC_MM / 1000, AUC_STEPS, dtype=torch.float64, device=pred.device)
    within = AUC_STEPS - torch.bucketize((pred - truth).norm(dim=-1).double(), thresholds).to(pred)
    area = torch.where(within == AUC_STEPS, AUC_STEPS - 1, within - 0.5).clamp(min=0) / (AUC_STEPS - 1)
    return area.mean(-1)


def accel_error_mm(pred: Float[Tensor, "*b t k 3"], truth: Float[Tensor, "*b t k 3"]) -> Float[Tensor, "*b t_minus_2"]:
    """Mean difference of the joints' accelerations, mm/frame^2, wrists on one point: second differences over frames.

    At 30 frames a second 1 mm/frame^2 is 0.9 m/s^2. Fewer than three frames give an empty answer.
    """
    return 1000 * (from_wrist(pred) - from_wrist(truth)).diff(n=2, dim=-3).norm(dim=-1).mean(-1)


def accel_error_m_s2(
    pred: Float[Tensor, "*b t k 3"], truth: Float[Tensor, "*b t k 3"], fps: float
) -> Float[Tensor, "*b t_minus_2"]:
    """`accel_error_mm` in m/s^2, as ARCTIC and HOT3D papers print it."""
    return accel_error_mm(pred, truth) / 1000 * fps**2


def jitter_mm(joints: Float[Tensor, "*b t k 3"]) -> Float[Tensor, "*b t_minus_3"]:
    """Mean length of the joints' third differences, mm/frame^3, seen from the wrist: shaking, without a truth."""
    return 1000 * from_wrist(joints).diff(n=3, dim=-3).norm(dim=-1).mean(-1)


def from_wrist(joints: Float[Tensor, "*b k 3"]) -> Float[Tensor, "*b k 3"]:
    """The joints with joint 0 at the origin."""
    return joints - joints[..., :1, :]


def rotation_error_deg(
    R_pred: Float[Tensor, "*b t k 3 3"], R_truth: Float[Tensor, "*b t k 3 3"]
) -> Float[Tensor, "*b t k"]:
    """Geodesic angle between the rotations of each joint, degrees in [0, 180]."""
    return rotation.angle_between(R_pred, R_truth).rad2deg()


def second_difference_deg(R: Float[Tensor, "t k 3 3"]) -> Float[Tensor, "t_minus_2"]:
    r"""How much the joints' turning changes from one frame to the next, degrees/frame^2, averaged over joints.

    $\lVert\omega_{t+1} - \omega_t\rVert$ with $\omega_t = \log(R_t^\top R_{t+1})$. A steady turn gives 0.
    """
    omega = rotation.log(R[:-1].mT @ R[1:])  # (t-1, k, 3)
    return omega.diff(dim=0).norm(dim=-1).rad2deg().mean(-1)


def shake_statistics(R: Float[Tensor, "t k 3 3"]) -> dict[str, float]:
    r"""What tells an estimator's noise from motion, in the second differences $a_t = \omega_{t+1} - \omega_t$.

    `mean_deg`, `median_deg`, `p95_deg`, `p99_deg` of their length, degrees/frame^2; their correlation one and two
    frames on (`lag1`, `lag2`: -2/3 and 1/6 for white noise); `spikes`, the share above six medians.
    """
    omega = rotation.log(R[:-1].mT @ R[1:])
    a = torch.rad2deg(omega.diff(dim=0))
    size, power = a.norm(dim=-1), a.square().sum()
    lags = [((a[lag:] * a[:-lag]).sum() / power).item() for lag in (1, 2)]
    spikes = (size > 6 * size.median()).float().mean().item()
    quantiles = dict(
        zip(
            ("median_deg", "p95_deg", "p99_deg"),
            size.quantile(size.new_tensor([0.5, 0.95, 0.99])).tolist(),
            strict=True,
        )
    )
    return {"mean_deg": size.mean().item(), **quantiles, "lag1": lags[0], "lag2": lags[1], "spikes": spikes}


BANDS_HZ = ((3.0, 5.0), (5.0, 7.5), (7.5, 10.0), (10.0, 15.0))
"""Where `shake_spectrum` looks: fingers move on purpose below, and 30 frames a second show no more above."""


def shake_spectrum(R: Float[Tensor, "t k 3 3"], fps: float) -> Float[Tensor, "4"]:
    r"""Shares of BANDS_HZ in the power of the pose above 3 Hz, from windows of 64 frames (Hann, half overlapping).

    The spectrum is that of $\omega$ divided by $|1 - e^{-2\pi i f / fps}|^2$, which undoes the difference. White noise
    has 17, 21, 21 and 42 % at 30 frames a second: as much as each band is wide.
    """
    omega = rotation.log(R[:-1].mT @ R[1:]).flatten(1)
    window = torch.hann_window(64).to(omega)
    power = torch.fft.rfft(omega.unfold(0, 64, 32) * window).abs().square().sum((0, 1))
    f = torch.fft.rfftfreq(64, 1 / fps).to(omega)
    power = power / (2 * torch.sin(torch.pi * f / fps)).square().clamp(min=1e-9)
    bands = torch.stack([power[(f >= low) & (f < high + 1e-6)].mean() * (high - low) for low, high in BANDS_HZ])
    return bands / bands.sum()


def state_f1(pred: Int[Tensor, "t"], truth: Int[Tensor, "t"]) -> dict[str, float]:
    r"""F1 of each motion state that the truth has, $2 tp / (2 tp + fp + fn)$; frames where it is FREE do not count."""
    pred, truth = pred[truth != FREE], truth[truth != FREE]
    found = {}
    for k, name in enumerate(STATES):
        said, is_so = pred == k, truth == k
        if is_so.any():
            found[name] = 2 * (said & is_so).sum().item() / (said.sum() + is_so.sum()).item()
    return found


def macro_f1(pred: Int[Tensor, "t"], truth: Int[Tensor, "t"]) -> float:
    """Mean of `state_f1`: every state that the truth has weighs the same, however rare. nan without any."""
    found = state_f1(pred, truth).values()
    return sum(found) / len(found) if found else float("nan")


def require_same_track(pred: HandMotion, truth: HandMotion) -> None:
    """Raise MotionError unless both are of one side, rate and length, and the truth is known somewhere."""
    for name in ("side", "fps"):
        if getattr(pred, name) != getattr(truth, name):
            raise MotionError(
                f"score: {name} differs ({getattr(pred, name)} and {getattr(truth, name)}); compare tracks of one kind"
            )
    if len(pred) != len(truth):
        raise MotionError(f"score: {len(pred)} frames against {len(truth)}; cut both to the same frames")
    if not truth.valid.any():
        raise MotionError("score: the truth has no valid frame; there is nothing to compare with")


def score(pred: HandMotion, truth: HandMotion, hand: HandModel) -> dict[str, float]:
    """MJE, P-MJE, ACCL, finger angle error and finger second difference of `pred`, means over frames.

    Each motion is posed with its own betas. Every frame where the truth is valid counts, whether the prediction is
    valid there or not: fill missing frames first. Differences over time need all their frames; a track too short for
    them scores nan. Raises MotionError when the tracks do not match.
    """
    require_same_track(pred, truth)
    seen = truth.valid
    three = seen[:-2] & seen[1:-1] & seen[2:]
    p, g = pred.joints(hand), truth.joints(hand)
    unfilled = int((~p[seen].flatten(1).isfinite().all(1)).sum())
    if unfilled:
        raise MotionError(f"score: the prediction is NaN or inf in {unfilled} frames; fill them with fill_missing")
    return {
        "mje_mm": mje_mm(p[seen], g[seen]).mean().item(),
        "p_mje_mm": p_mje_mm(p[seen], g[seen]).mean().item(),
        "accl_mm": accel_error_mm(p, g)[three].mean().item(),
        "finger_deg": rotation_error_deg(pred.R[seen, 1:], truth.R[seen, 1:]).mean().item(),
        "finger_second_difference_deg": second_difference_deg(pred.R[:, 1:])[three].mean().item(),
    }
