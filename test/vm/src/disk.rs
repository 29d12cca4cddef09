//! Disks of a guest, beyond the root it shares with the host.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};

use crate::Error;

/// What the guest sees it as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bus {
    /// `/dev/vda`, `/dev/vdb`, …
    Virtio,
    /// `/dev/nvme0n1`, `/dev/nvme1n1`, …; one controller each.
    Nvme,
}

/// Where its bytes are.
#[derive(Clone, Debug)]
enum Backing {
    /// Empty at the start, gone at the end.
    Scratch { bytes: u64 },
    /// A raw image that outlives the guest.
    File(PathBuf),
}

/// One disk.
#[derive(Clone, Debug)]
pub struct Disk {
    bus: Bus,
    backing: Backing,
    serial: Option<String>,
}

impl Disk {
    /// An empty virtio-blk disk of `bytes`, a multiple of 512.
    #[must_use]
    pub fn virtio(bytes: u64) -> Disk {
        Disk { bus: Bus::Virtio, backing: Backing::Scratch { bytes }, serial: None }
    }

    /// An NVMe controller with one empty namespace of `bytes`, a multiple of 512.
    #[must_use]
    pub fn nvme(bytes: u64) -> Disk {
        Disk { bus: Bus::Nvme, ..Disk::virtio(bytes) }
    }

    /// The same with the bytes of a raw image, which the guest writes to: a disk that outlives the guest.
    #[must_use]
    pub fn file(self, image: impl Into<PathBuf>) -> Disk {
        Disk { backing: Backing::File(image.into()), ..self }
    }

    /// Its serial number; `disk0`, `disk1`, … in the order of the disks otherwise.
    #[must_use]
    pub fn serial(self, serial: impl Into<String>) -> Disk {
        Disk { serial: Some(serial.into()), ..self }
    }

    /// QEMU's arguments for it as disk `number`; an image is made in `scratch` where there is none.
    pub(crate) fn args(&self, number: usize, scratch: &Path) -> Result<[OsString; 4], Error> {
        let image = match &self.backing {
            Backing::File(image) => image.clone(),
            Backing::Scratch { bytes } => {
                let image = scratch.join(format!("disk{number}.raw"));
                let sized = File::create(&image).and_then(|file| file.set_len(*bytes));
                sized.map_err(Error::file(&image))?;
                image
            }
        };
        // A comma would end the name.
        let name = image.to_string_lossy().replace(',', ",,");
        let serial = self.serial.clone().unwrap_or_else(|| format!("disk{number}"));
        let device = match self.bus {
            Bus::Virtio => format!("virtio-blk-pci,drive=d{number},serial={serial}"),
            Bus::Nvme => format!("nvme,drive=d{number},serial={serial}"),
        };
        let drive = format!("if=none,id=d{number},format=raw,discard=unmap,file={name}");
        Ok(["-drive".into(), drive.into(), "-device".into(), device.into()])
    }
}
