//! Which file systems a database file may stand on.
//!
//! SQLite's write-ahead log shares memory between processes and trusts file locks; network file systems give
//! neither, and a database on one is damaged sooner or later.

use std::path::Path;

use convoke_core::StateError;

/// What a file system is, as far as SQLite cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileSystem {
    Local,
    /// Under its usual name.
    Network(&'static str),
    /// In user space: its mount tells what it is.
    Fuse,
}

/// Magic numbers of `statfs(2)`: Linux `magic.h` and the file systems' own sources.
const NETWORK_MAGIC: &[(u64, &str)] = &[
    (0x6969, "NFS"),
    (0x517B, "SMB"),
    (0xFE53_4D42, "SMB2"),
    (0xFF53_4D42, "CIFS"),
    (0x564C, "NCP"),
    (0x5346_414F, "AFS"),
    (0x6B41_4653, "AFS"),
    (0x7375_7245, "Coda"),
    (0x00C3_6400, "Ceph"),
    (0x0102_1997, "9P"),
    (0x0BD0_0BD0, "Lustre"),
    (0x2003_0528, "OrangeFS"),
    (0x4750_4653, "GPFS"),
    (0x0116_1970, "GFS2"),
    (0x7461_636F, "OCFS2"),
    (0x1983_0326, "BeeGFS"),
    (0x786F_4256, "VirtualBox shared folders"),
    (0xBACB_ACBC, "VMware shared folders"),
];

const FUSE_MAGIC: u64 = 0x6573_5546;

/// Mount types of user-space file systems that keep files on other machines.
const NETWORK_FUSE: &[&str] = &[
    "fuse.sshfs",
    "fuse.s3fs",
    "fuse.goofys",
    "fuse.geesefs",
    "fuse.mountpoint-s3",
    "fuse.gcsfuse",
    "fuse.blobfuse",
    "fuse.blobfuse2",
    "fuse.rclone",
    "fuse.glusterfs",
    "fuse.ceph",
    "fuse.ceph-fuse",
    "fuse.cephfs",
    "fuse.juicefs",
    "fuse.mfs",
    "fuse.moosefs",
    "fuse.seaweedfs",
    "fuse.davfs",
    "fuse.davfs2",
    "fuse.curlftpfs",
    "fuse.smbnetfs",
    "fuse.hdfs",
    "fuse.alluxio-fuse",
    "fuse.vmhgfs-fuse",
    "fuse.ossfs",
    "fuse.cosfs",
];

/// Tells a file system by its magic number.
pub(super) fn classify(magic: u64) -> FileSystem {
    if magic == FUSE_MAGIC {
        return FileSystem::Fuse;
    }
    let known = NETWORK_MAGIC.iter().find(|(known, _)| *known == magic);
    known.map_or(FileSystem::Local, |(_, name)| FileSystem::Network(name))
}

/// Tells a user-space file system by its mount type.
pub(super) fn classify_fuse(mount_type: &str) -> FileSystem {
    let known = NETWORK_FUSE.iter().find(|known| **known == mount_type);
    known.map_or(FileSystem::Local, |name| FileSystem::Network(name))
}

/// Finds the type of the mount with this device number in the text of `/proc/self/mountinfo`.
fn mount_type(mountinfo: &str, major: u32, minor: u32) -> Option<&str> {
    let device = format!("{major}:{minor}");
    let line = mountinfo.lines().find(|line| line.split(' ').nth(2) == Some(device.as_str()))?;
    // A varying number of optional fields ends with a lone dash.
    let (_, after_dash) = line.split_once(" - ")?;
    after_dash.split(' ').next()
}

/// Refuses a database at `path` if its folder, or the nearest one above that exists, is on a network file system.
pub(super) fn refuse_network(path: &Path, folder: &Path) -> Result<(), StateError> {
    let existing = folder.ancestors().find(|above| above.is_dir()).unwrap_or(Path::new("."));
    match detect(existing).map_err(|error| crate::fault::disk_fault("looking at", existing, error))? {
        FileSystem::Network(name) => Err(refusal(path, name)),
        FileSystem::Local | FileSystem::Fuse => Ok(()),
    }
}

fn refusal(path: &Path, name: &str) -> StateError {
    StateError::Unusable {
        message: format!(
            "the state `{}` would stand on a network file system ({name}), which damages SQLite files; name a folder \
             on a disk of this machine in the configuration",
            path.display()
        ),
    }
}

#[cfg(target_os = "linux")]
fn detect(folder: &Path) -> std::io::Result<FileSystem> {
    // The number is 32 bits wide; on some machines it comes sign-extended.
    let magic = (rustix::fs::statfs(folder)?.f_type as u64) & 0xFFFF_FFFF;
    let by_magic = classify(magic);
    if by_magic != FileSystem::Fuse {
        return Ok(by_magic);
    }
    let device = rustix::fs::stat(folder)?.st_dev;
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo")?;
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    Ok(mount_type(&mountinfo, major, minor).map_or(FileSystem::Local, classify_fuse))
}

/// Elsewhere numbers differ from system to system, and nothing is refused.
#[cfg(not(target_os = "linux"))]
fn detect(_folder: &Path) -> std::io::Result<FileSystem> {
    Ok(FileSystem::Local)
}

#[cfg(test)]
mod tests;
