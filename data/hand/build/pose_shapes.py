"""Pose blend shapes that keep the volume of bent joints."""

import numpy as np
from poses import plausible_poses
from scipy.spatial.transform import Rotation
from skeleton import CHAIN, axes

from handdiff_lib.topology import PARENTS


def _forward(joints, poses):
    """Global rotations, translations of skinned space and local rotations of poses (n, 16, 3)."""
    n = len(poses)
    R = Rotation.from_rotvec(poses.reshape(-1, 3)).as_matrix().reshape(n, 16, 3, 3)
    G, t = np.zeros_like(R), np.zeros((n, 16, 3))
    for i, p in enumerate(PARENTS):
        G[:, i] = R[:, i] if p < 0 else G[:, p] @ R[:, i]
        t[:, i] = joints[i] if p < 0 else t[:, p] + np.einsum("nij,j->ni", G[:, p], joints[i] - joints[p])
    return G, t - np.einsum("nkij,kj->nki", G, joints), R


def _dual_quaternion_skin(v, weights, G, t):
    """Dual quaternion skinning (Kavan et al. 2007) of v for rotations G (n, 16, 3, 3) and translations t."""
    q = Rotation.from_matrix(G.reshape(-1, 3, 3)).as_quat().reshape(len(G), 16, 4)
    for i in range(1, 16):
        q[:, i] *= np.where((q[:, i] * q[:, PARENTS[i]]).sum(-1, keepdims=True) < 0, -1, 1)
    qv, qw = q[..., :3], q[..., 3:]
    dual = np.concatenate([0.5 * (qw * t + np.cross(t, qv)), -0.5 * (t * qv).sum(-1, keepdims=True)], -1)
    b = np.einsum("vk,nkc->nvc", weights, np.concatenate([q, dual], -1))
    b /= np.linalg.norm(b[..., :4], axis=-1, keepdims=True)
    u, w, du, dw = b[..., :3], b[..., 3:4], b[..., 4:7], b[..., 7:]
    return v + 2 * np.cross(u, np.cross(u, v) + w * v) + 2 * (w * du - dw * u + np.cross(u, du))


def knuckle_bumps(v, joints, tips, normals, height, width=0.0075):
    """Per finger: the joint, and the move of every vertex that lifts the skin over the bent knuckle."""
    out = []
    for finger, mm in height.items():
        c = CHAIN[finger][0]
        _, up, along = axes(joints, tips)[c]
        top = joints[c] + up * 0.011 + along * 0.002
        weight = np.exp(-0.5 * (np.linalg.norm(v - top, axis=1) / width) ** 2)
        out.append((c, (weight * np.clip(normals @ up, 0, 1))[:, None] * up * mm * 1e-3))
    return out


def fit_pose_shapes(v, joints, weights, tips, bumps, count=1500, seed=3, ridge=1e-3, most=0.006):
    """Pose blend shapes (v, 3, 135), linear in R - I of the joints that move a vertex.

    They are fitted over random plausible poses, so that linear blend skinning follows dual quaternion skinning plus
    the knuckle bumps; no vertex is asked to move more than `most` metres.
    """
    rng = np.random.default_rng(seed)
    poses = plausible_poses(joints, tips, count, seed).reshape(count, 15, 3)
    poses = np.concatenate([np.zeros((count, 1, 3)), poses + rng.normal(0, 0.06, poses.shape)], 1)
    XtX, XtY = np.zeros((135, 135)), np.zeros((135, len(v) * 3))
    for start in range(0, count, 250):
        G, t, R = _forward(joints, poses[start : start + 250])
        X = (R[:, 1:] - np.eye(3)).reshape(-1, 135)
        goal = _dual_quaternion_skin(v[None], weights, G, t) - np.einsum("vk,nki->nvi", weights, t)
        d = np.linalg.solve(np.einsum("vk,nkij->nvij", weights, G), goal[..., None])[..., 0] - v
        d *= np.minimum(1, most / (np.linalg.norm(d, axis=-1, keepdims=True) + 1e-12))
        for c, bump in bumps:
            bend = np.clip((3 - np.trace(R[:, c], axis1=1, axis2=2)) / 2, 0, 1)  # 1 - cos(angle)
            d += bend[:, None, None] * bump
        XtX += X.T @ X
        XtY += X.T @ d.reshape(len(X), -1)
    XtY = XtY.reshape(135, len(v), 3)
    out, moved_by = np.zeros((135, len(v), 3)), weights > 0.01
    for c, bump in bumps:
        moved_by[np.linalg.norm(bump, axis=1) > 1e-4, c] = True
    for key in {tuple(row) for row in moved_by}:
        rows = np.where((moved_by == key).all(1))[0]
        moving = [k for k in np.where(key)[0] if k > 0]
        if sum(key) > 1 and moving:  # vertices on one bone only need nothing
            c = np.concatenate([np.arange(9 * (k - 1), 9 * k) for k in moving])
            A = XtX[np.ix_(c, c)] + ridge * count * np.eye(len(c))
            fitted = np.linalg.solve(A, XtY[np.ix_(c, rows)].reshape(len(c), -1))
            out[np.ix_(c, rows)] = fitted.reshape(len(c), len(rows), 3)
    return out.transpose(1, 2, 0).copy()
