//! Measures, in a folder given as the first argument, what each way to make bytes durable costs: the
//! figures behind the shard store's choice of system calls.

use ashlar_disk::{Disk, OpenMode, RealDisk};
use std::path::Path;
use std::time::Instant;

const LOG_BYTES: u64 = 64 << 20;

fn cpu_seconds() -> f64 {
    let ticks = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    ticks.tv_sec as f64 + ticks.tv_nsec as f64 / 1e9
}

fn measure(name: &str, rounds: u64, bytes: u64, mut write: impl FnMut(u64)) {
    let (wall, cpu) = (Instant::now(), cpu_seconds());
    (0..rounds).for_each(&mut write);
    let (wall, cpu) = (wall.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    println!(
        "{name:<58} {:>8.0}/s {:>8.1} us {:>7.1} us cpu {:>8.1} MB/s",
        rounds as f64 / wall,
        wall / rounds as f64 * 1e6,
        cpu / rounds as f64 * 1e6,
        (rounds * bytes) as f64 / wall / 1e6
    );
}

fn main() -> std::io::Result<()> {
    let folder = std::env::args().nth(1).expect("a folder to write in");
    let folder = Path::new(&folder);
    let disk = RealDisk::new();
    disk.create_dir_all(folder)?;
    let paths: Vec<_> = (0..6).map(|index| folder.join(format!("probe-{index}"))).collect();
    for fill in ["zero-written", "allocated"] {
        for direct in [false, true] {
            let files: Vec<_> = paths
                .iter()
                .map(|path| {
                    let _ = disk.remove_file(path);
                    let file = if direct {
                        disk.open_direct(path, OpenMode::CreateNew)
                    } else {
                        disk.open(path, OpenMode::CreateNew)
                    }?;
                    if fill == "zero-written" {
                        let zeroes = vec![0; 1 << 20];
                        for mib in 0..LOG_BYTES >> 20 {
                            file.write_all_at(&[&zeroes], mib << 20)?;
                        }
                    } else {
                        file.allocate(0, LOG_BYTES)?;
                    }
                    file.sync_data()?;
                    Ok(file)
                })
                .collect::<std::io::Result<_>>()?;
            let way = if direct { "O_DIRECT" } else { "buffered" };
            for len in [4096, 65536, 262144] {
                let data = vec![7; len as usize];
                let rounds = 2000.min(LOG_BYTES / len);
                measure(&format!("{fill} {way} {len} RWF_DSYNC, one file"), rounds, len, |i| {
                    files[0].write_durable_at(&[&data], i * len).expect("written");
                });
                measure(&format!("{fill} {way} {len} write + fdatasync, one file"), rounds, len, |i| {
                    files[1].write_all_at(&[&data], i * len).expect("written");
                    files[1].sync_data().expect("synced");
                });
                measure(&format!("{fill} {way} {len} RWF_DSYNC, six files in turn"), rounds, 6 * len, |i| {
                    for file in &files {
                        file.write_durable_at(&[&data], i * len).expect("written");
                    }
                });
                measure(&format!("{fill} {way} {len} RWF_DSYNC, six threads"), rounds, 6 * len, |i| {
                    if i == 0 {
                        std::thread::scope(|scope| {
                            for file in &files {
                                scope.spawn(|| {
                                    for i in 0..rounds {
                                        file.write_durable_at(&[&data], i * len).expect("written");
                                    }
                                });
                            }
                        });
                    }
                });
                measure(&format!("{fill} {way} {len} write six, then six fdatasync"), rounds, 6 * len, |i| {
                    for file in &files {
                        file.write_all_at(&[&data], i * len).expect("written");
                    }
                    for file in &files {
                        file.sync_data().expect("synced");
                    }
                });
            }
        }
    }
    paths.iter().try_for_each(|path| disk.remove_file(path))
}
