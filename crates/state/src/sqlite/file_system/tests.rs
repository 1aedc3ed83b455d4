//! File systems are told apart, and network ones refused.

use super::*;

#[test]
fn file_systems_are_told_by_their_magic_number() {
    let cases = [
        (0xEF53, FileSystem::Local),
        (0x5846_5342, FileSystem::Local),
        (0x9123_683E, FileSystem::Local),
        (0x0102_1994, FileSystem::Local),
        (0x794C_7630, FileSystem::Local),
        (0x6969, FileSystem::Network("NFS")),
        (0x517B, FileSystem::Network("SMB")),
        (0xFE53_4D42, FileSystem::Network("SMB2")),
        (0xFF53_4D42, FileSystem::Network("CIFS")),
        (0x00C3_6400, FileSystem::Network("Ceph")),
        (0x6573_5546, FileSystem::Fuse),
    ];
    for (magic, expected) in cases {
        assert_eq!(classify(magic), expected, "{magic:#x}");
    }
}

#[test]
fn user_space_file_systems_are_told_by_their_mount_type() {
    assert_eq!(classify_fuse("fuse.sshfs"), FileSystem::Network("fuse.sshfs"));
    assert_eq!(classify_fuse("fuse.gcsfuse"), FileSystem::Network("fuse.gcsfuse"));
    assert_eq!(classify_fuse("fuse.fuse-overlayfs"), FileSystem::Local);
    assert_eq!(classify_fuse("fuseblk"), FileSystem::Local);
}

#[test]
fn a_mount_is_found_by_its_device_number() {
    let mountinfo = "\
22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
97 22 0:45 / /mnt/remote rw,nosuid shared:2 master:3 - fuse.sshfs host:/data rw,user_id=0
98 22 0:46 / /mnt/other rw - tmpfs tmpfs rw
";
    assert_eq!(mount_type(mountinfo, 0, 45), Some("fuse.sshfs"));
    assert_eq!(mount_type(mountinfo, 0, 46), Some("tmpfs"));
    assert_eq!(mount_type(mountinfo, 254, 1), Some("ext4"));
    assert_eq!(mount_type(mountinfo, 9, 9), None);
}

#[test]
fn a_refusal_names_the_path_the_file_system_and_the_remedy() {
    let message = refusal(Path::new("/mnt/share/state.db"), "NFS").to_string();
    assert!(message.contains("`/mnt/share/state.db`"), "{message}");
    assert!(message.contains("(NFS)"), "{message}");
    assert!(message.contains("name a folder on a disk of this machine"), "{message}");
}

#[test]
fn a_temporary_folder_is_local() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(detect(folder.path()).unwrap(), FileSystem::Local);
    refuse_network(&folder.path().join("not/there/state.db"), &folder.path().join("not/there")).unwrap();
}
