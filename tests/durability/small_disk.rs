//! A real file system of 64 MiB in a file, which takes root and loop devices.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use tempfile::TempDir;

use crate::support::PATIENCE;
use crate::support::broker::scratch_directory;
use crate::support::home::Home;

pub(crate) const DISK_BYTES: u64 = 64 * 1024 * 1024;

/// A small file system of its own, unmounted when the test is over, however it ends.
pub(crate) struct SmallDisk {
    image: PathBuf,
    mounted_at: PathBuf,
    _directory: TempDir,
}

impl SmallDisk {
    /// None, with the reason printed, where this isn't possible.
    pub(crate) fn mount() -> Option<Self> {
        let directory = scratch_directory();
        let image = directory.path().join("image");
        let mounted_at = directory.path().join("disk");
        std::fs::create_dir(&mounted_at).expect("the scratch directory is writable");
        let file = std::fs::File::create(&image).expect("the scratch directory is writable");
        file.set_len(DISK_BYTES).expect("a file may have holes");
        let made = run(Command::new("mkfs.ext4").arg("-q").arg(&image));
        match made.and_then(|()| mount(&image, &mounted_at)) {
            Ok(()) => Some(Self {
                image,
                mounted_at,
                _directory: directory,
            }),
            Err(reason) => {
                println!("not tested: {reason}");
                None
            }
        }
    }

    pub(crate) fn home(&self) -> Home {
        // Only the real end of space is to count.
        self.home_with_limit(1)
    }

    /// Where publishers are blocked as soon as fewer bytes than that are free.
    pub(crate) fn home_with_limit(&self, free_bytes: u64) -> Home {
        let configuration = format!("disk_free_limit.absolute = {free_bytes}\n");
        Home::with_data_in(self.mounted_at.join("data"), &configuration)
    }
}

/// What is done to a file system that is shut down: nothing more is written, not even what is in its journal only.
const SHUT_DOWN: &str = "
import fcntl, os, struct, sys
EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH = 0x8004587D, 2
directory = os.open(sys.argv[1], os.O_RDONLY)
fcntl.ioctl(directory, EXT4_IOC_SHUTDOWN, struct.pack('I', EXT4_GOING_FLAGS_NOLOGFLUSH))
";

impl SmallDisk {
    /// From now on every operation on it ends in EIO.
    pub(crate) fn fail(&self) {
        let mut python = Command::new("python3");
        let failed = run(python.args(["-c", SHUT_DOWN]).arg(&self.mounted_at));
        failed.expect("root may shut a file system down");
    }

    /// It works again, with what had reached the image before.
    pub(crate) fn mend(&self) {
        // The kernel closes the files of a broker's rings soon after the broker has ended, and nothing tells when.
        let patience = Instant::now() + PATIENCE;
        let unmount = || run(Command::new("umount").arg(&self.mounted_at));
        let mut unmounted = unmount();
        while unmounted.is_err() && Instant::now() < patience {
            unmounted = unmount();
        }
        let mounted = unmounted.and_then(|()| mount(&self.image, &self.mounted_at));
        mounted.expect("nobody uses it any more");
    }
}

fn mount(image: &Path, at: &Path) -> Result<(), String> {
    run(Command::new("mount").args(["-o", "loop"]).args([image, at]))
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A broker that a failed test left behind may be dying still.
        let unmount =
            |arguments: &[&str], at: &Path| run(Command::new("umount").args(arguments).arg(at));
        if let Err(first) = unmount(&[], &self.mounted_at)
            && let Err(then) = unmount(&["--lazy"], &self.mounted_at)
        {
            eprintln!(
                "{} stays mounted: {first}; {then}",
                self.mounted_at.display()
            );
        }
    }
}

/// Runs a tool; what it complained about if it failed.
fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!(
            "{name}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
        Err(error) => Err(format!("{name}: {error}")),
    }
}
