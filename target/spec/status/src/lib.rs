//! The status every IO ends with: NVMe status codes, and their mapping to errno and virtio.
