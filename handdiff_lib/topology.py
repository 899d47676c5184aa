"""What is numbered how: joints, parents, fingers, finger tips and the joint orders of others."""

FINGERS = ("thumb", "index", "middle", "ring", "little")
"""The order in which tips and 21-joint layouts list the fingers."""

JOINTS = (
    "wrist",
    *("index1", "index2", "index3"),
    *("middle1", "middle2", "middle3"),
    *("little1", "little2", "little3"),
    *("ring1", "ring2", "ring3"),
    *("thumb1", "thumb2", "thumb3"),
)
"""The 16 joints in MANO order (little before ring, thumb last)."""

PARENTS = (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 0, 10, 11, 0, 13, 14)
"""Parent of each joint; a parent always comes before its child."""

CHAIN = {finger: tuple(JOINTS.index(f"{finger}{k}") for k in (1, 2, 3)) for finger in FINGERS}
"""The three joints of each finger, from the palm outwards."""

TIPS = {
    "smplx": (744, 320, 443, 554, 671),  # smplx 0.1.28 vertex_ids, HaMeR
    "manopth": (745, 317, 444, 556, 673),  # manopth, manotorch, DexYCB (their left hand has 445 for 444)
}
"""Vertex at the tip of each finger, in the order of FINGERS, in the two conventions in use."""

OPENPOSE = (0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20)
"""Where each of the 21 OpenPose joints stands in [16 MANO joints, 5 tips]; same as MediaPipe and DexYCB."""

BONES21 = tuple((0 if k % 4 == 1 else k - 1, k) for k in range(1, 21))
"""(parent, child) pairs in the 21-joint order: wrist, then four joints a finger."""

STATES = ("reach", "stable grasp", "manipulate", "release")
"""The motion states of DIP section 3.3, in the order of the network's logits."""

REACH, GRASP, MANIPULATE, RELEASE = range(4)
"""Their numbers."""

FREE = -100
"""Label of frames outside the four states; losses ignore it."""
