"""The limits of containers, in trees of files as Linux shows them."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from gramstyle.system.control_groups import cpu_limit, memory_limit

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
V1 = "32 31 0:{0} {1} /sys/fs/cgroup/{0} rw - cgroup cgroup rw,{0}"
NONE_V1 = "9223372036854771712"  # how version 1 says that there is no limit

Tree = Mapping[str, str]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path


def build(root: Path, groups: str, mounts: str, files: Tree) -> Path:
    """Write what /proc says of a process, and the files of its groups under /sys/fs/cgroup."""
    written = {
        "proc/self/cgroup": groups,
        "proc/self/mountinfo": mounts,
        **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
    }
    for name, text in written.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a/b/memory.max": "3000"}, 3000),
        ({"a/memory.max": "2000", "a/b/memory.max": "3000"}, 2000),  # the group around is lower
        ({"a/memory.max": "max", "a/b/memory.max": "3000"}, 3000),
        ({"a/memory.max": "4000", "a/b/memory.max": "max"}, 4000),
        ({"a/b/memory.max": "max", "a/b/memory.high": "1000"}, 1000),
        ({"a/b/memory.max": "max", "a/b/memory.high": "max"}, None),
        ({"a/b/other/memory.max": "10", "c/memory.max": "10"}, None),  # groups of other processes
        ({"a/b/memory.max": "not a number"}, None),
        ({}, None),
    ],
)
def test_in_version_2_the_lowest_memory_limit_on_the_path_of_the_process_counts(
    files: Tree, expected: int | None, root: Path
) -> None:
    assert memory_limit(build(root, "0::/a/b", V2, files)) == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a/b/cpu.max": "150000 100000"}, 1.5),
        ({"a/cpu.max": "50000 100000", "a/b/cpu.max": "150000 100000"}, 0.5),
        ({"a/cpu.max": "40000 20000", "a/b/cpu.max": "max 100000"}, 2.0),
        ({"a/b/cpu.max": "max 100000"}, None),
        ({"a/b/cpu.max": ""}, None),
    ],
)
def test_in_version_2_the_lowest_cpu_quota_on_the_path_of_the_process_counts(
    files: Tree, expected: float | None, root: Path
) -> None:
    assert cpu_limit(build(root, "0::/a/b", V2, files)) == expected


V1_GROUPS = "4:memory:/docker/x\n3:cpu,cpuacct:/docker/x\n1:name=systemd:/docker/x\n0::/"
V1_MOUNTS = f"{V1.format('memory', '/')}\n{V1.format('cpu,cpuacct', '/')}"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"docker/x/memory.limit_in_bytes": "3000"}, 3000),
        ({"docker/x/memory.limit_in_bytes": "3000", "docker/memory.limit_in_bytes": "2000"}, 2000),
        ({"docker/x/memory.limit_in_bytes": NONE_V1, "memory.limit_in_bytes": "5000"}, 5000),
        ({"docker/x/memory.stat": "cache 7\nhierarchical_memory_limit 1000"}, 1000),
    ],
)
def test_in_version_1_the_lowest_memory_limit_counts(
    files: Tree, expected: int, root: Path
) -> None:
    there = {f"memory/{name}": text for name, text in files.items()}
    assert memory_limit(build(root, V1_GROUPS, V1_MOUNTS, there)) == expected


def test_in_version_1_the_lowest_cpu_quota_counts(root: Path) -> None:
    files = {
        "cpu,cpuacct/docker/x/cpu.cfs_quota_us": "-1",
        "cpu,cpuacct/docker/x/cpu.cfs_period_us": "100000",
        "cpu,cpuacct/docker/cpu.cfs_quota_us": "250000",
        "cpu,cpuacct/docker/cpu.cfs_period_us": "100000",
    }
    assert cpu_limit(build(root, V1_GROUPS, V1_MOUNTS, files)) == 2.5


def test_a_machine_with_both_versions_has_the_limits_of_both(root: Path) -> None:
    mounts = f"{V1.format('memory', '/')}\n40 31 0:1 / /sys/fs/cgroup/unified rw - cgroup2 none rw"
    files = {"memory/j/memory.limit_in_bytes": "9000", "unified/u/cpu.max": "300000 100000"}
    build(root, "4:memory:/j\n0::/u", mounts, files)
    assert (memory_limit(root), cpu_limit(root)) == (9000, 3.0)


@pytest.mark.parametrize(
    ("groups", "top"),
    [
        ("4:memory:/docker/x", "/docker/x"),  # a container sees its own group as the first one
        ("4:memory:/docker/x", "/docker/y"),  # mounted from elsewhere
        ("4:memory:/../../other", "/"),  # the process has been moved out of the namespace
        ("0::/", "/docker/x"),
    ],
)
def test_a_container_that_sees_a_part_of_the_hierarchy_has_the_limit_at_its_mount_point(
    groups: str, top: str, root: Path
) -> None:
    files = {"memory/memory.limit_in_bytes": "7000"}
    assert memory_limit(build(root, groups, V1.format("memory", top), files)) == 7000


@pytest.mark.parametrize("name", ["memory.max", "memory/memory.limit_in_bytes"])
def test_limits_are_found_at_the_usual_place_if_the_system_lists_no_mounts(
    name: str, root: Path
) -> None:
    assert memory_limit(build(root, "", "", {name: "1000000000"})) == 1_000_000_000
    for file in ("cgroup", "mountinfo"):
        (root / "proc/self" / file).unlink()
    assert memory_limit(root) == 1_000_000_000


def test_a_mount_point_and_a_group_may_have_any_name(root: Path) -> None:
    mounts = r"30 23 0:26 / /sys/fs/cgroup/my\040own rw shared:9 - cgroup2 none rw"
    files = {"my own/a:b/memory.max": "3000"}
    assert memory_limit(build(root, "0::/a:b", mounts, files)) == 3000


def test_a_system_without_control_groups_sets_no_limit(root: Path) -> None:
    assert (memory_limit(root), cpu_limit(root)) == (None, None)
