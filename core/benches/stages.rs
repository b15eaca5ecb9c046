//! The time that an event takes, stage by stage, with the fields of a trace_open gadget.
//!
//! Each line of the report adds one stage to an earlier line. The `ring` group reads the same
//! events from a ring buffer in a memory file with the kernel's layout, the `backlog` group copies
//! them to where samples wait in a burst, and takes them out again.

use std::hint::black_box;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use _core::bpf::ring::Ring;
use _core::pipeline::datasource::DataSource;
use _core::schema::lookups::{ContainerValue, Lookups};
use _core::schema::plan::Plan;
use _core::schema::wall::WallClock;
use _core::stream::backlog::{Backlog, MIN_BYTES};
use criterion::{criterion_group, criterion_main, Criterion, Throughput};
use nix::time::{clock_gettime, ClockId};
use serde_json::{json, Value};

const PLAN: &str = include_str!("trace_open.json");
const EVENTS: usize = 4096;
const RING: usize = 8 << 20;
const HEADER: usize = 8;
const MNTNS: u64 = 4_026_531_841;
/// As ig-py shows this gadget by default: full names and widths.
const COLUMNS: [(&str, usize); 9] = [
    ("runtime.containerName", 20),
    ("proc.comm", 16),
    ("proc.pid", 7),
    ("proc.tid", 7),
    ("fd", 3),
    ("fname", 24),
    ("mode", 10),
    ("error", 5),
    ("timestamp", 35),
];

fn samples(plan: &Value) -> Vec<Vec<u8>> {
    let size = plan["datasources"][0]["sample_size"].as_u64().unwrap() as usize;
    let offset = |name: &str| {
        let fields = plan["datasources"][0]["fields"].as_array().unwrap();
        let field = fields.iter().find(|f| f["full_name"] == name).unwrap();
        field["offset"].as_u64().unwrap() as usize
    };
    (0..EVENTS)
        .map(|i| {
            let mut sample = vec![0; size];
            let mut put = |name: &str, bytes: &[u8]| {
                let at = offset(name);
                sample[at..at + bytes.len()].copy_from_slice(bytes);
            };
            put("timestamp_raw", &(3_600_000_000_000 + i as u64 * 3_333).to_ne_bytes());
            put("proc.comm", b"nginx");
            put("proc.parent.comm", b"containerd-shim");
            put("proc.pid", &(31_000 + i as u32 % 7).to_ne_bytes());
            put("proc.tid", &(31_000 + i as u32 % 7).to_ne_bytes());
            put("proc.parent.pid", &30_999u32.to_ne_bytes());
            put("proc.mntns_id", &MNTNS.to_ne_bytes());
            put("proc.creds.uid", &(i as u32 % 2 * 33).to_ne_bytes());
            put("error_raw", &(i as u32 % 8 / 7 * 2).to_ne_bytes());
            put("fd", &(i as u32 % 64).to_ne_bytes());
            put("flags_raw", &0o2_000_000u32.to_ne_bytes());
            put("fname", format!("/usr/share/nginx/html/page-{i}.html").as_bytes());
            sample
        })
        .collect()
}

struct Stage {
    source: DataSource,
    lookups: Lookups,
}

impl Stage {
    fn new(plan: &Value, change: impl Fn(&mut Value)) -> Stage {
        let mut plan = plan.clone();
        change(&mut plan["datasources"][0]);
        let plan = Plan::parse(&plan.to_string()).unwrap();
        let mut lookups = Lookups {
            clock: WallClock::fixed(plan.clock_offset_ns.unwrap_or(0)),
            ..Lookups::default()
        };
        let names = || [(0, "root".into()), (33, "www-data".into())].into();
        lookups.set_names(names(), names()).unwrap();
        let source = DataSource::compile(&plan.datasources[0], &mut lookups).unwrap();
        let text = |name: &str, value: &str| (name.to_string(), ContainerValue::Text(value.into()));
        let values = [
            text("runtime.containerName", "web-1"),
            text("runtime.runtimeName", "docker"),
            text("runtime.containerId", &"3f".repeat(32)),
            text("runtime.containerImageName", "docker.io/library/nginx:1.27"),
            text("runtime.containerImageDigest", &format!("sha256:{}", "9c".repeat(32))),
            ("runtime.containerPid".to_string(), ContainerValue::Uint(30_999)),
        ];
        lookups.containers.set(MNTNS, 0, &values).unwrap();
        Stage { source, lookups }
    }

    fn run(&mut self, samples: &[Vec<u8>]) -> usize {
        for sample in samples {
            self.source.process(&self.lookups, sample);
        }
        self.source.take().map_or(0, |out| black_box(out).data.len())
    }
}

fn mode(ds: &mut Value, mode: &str) {
    ds["output"] = json!({"mode": mode});
    if mode == "columns" {
        let fields = ds["fields"].as_array().unwrap();
        let id = |name| fields.iter().find(|f| f["full_name"] == name).unwrap()["id"].clone();
        let columns = COLUMNS.map(|(name, width)| json!({"field": id(name), "width": width}));
        ds["output"]["columns"] = json!(columns);
    }
}

fn filter(ds: &mut Value, full_name: &str, op: &str, value: &str) {
    let fields = ds["fields"].as_array().unwrap();
    let id = fields.iter().find(|f| f["full_name"] == full_name).unwrap()["id"].clone();
    ds["filters"] = json!([{"field": id, "op": op, "value": value}]);
}

fn stages(c: &mut Criterion) {
    let plan: Value = serde_json::from_str(PLAN).unwrap();
    let samples = samples(&plan);
    let mut group = c.benchmark_group("stage");
    group.throughput(Throughput::Elements(EVENTS as u64));
    let mut measure = |name: &str, change: &dyn Fn(&mut Value)| {
        let mut stage = Stage::new(&plan, change);
        group.bench_function(name, |b| b.iter(|| stage.run(&samples)));
    };
    measure("decode, a number filters all out", &|ds| filter(ds, "fd", "==", "1000"));
    measure("decode, a pattern filters all out", &|ds| filter(ds, "fname", "~", "\\.conf$"));
    measure("decode", &|ds| ds["steps"] = json!([]));
    for i in 0..plan["datasources"][0]["steps"].as_array().unwrap().len() {
        let step = &plan["datasources"][0]["steps"][i];
        measure(&format!("decode, {}", step["op"].as_str().unwrap()), &|ds| {
            ds["steps"] = json!([step]);
        });
    }
    measure("decode, all steps", &|_| {});
    for name in ["json", "jsonpretty", "yaml", "columns"] {
        measure(&format!("decode, all steps, {name}"), &|ds| mode(ds, name));
    }
    group.finish();
}

/// A memory file with the layout of a ring buffer's mapping: consumer, producer, data.
struct MemoryRing {
    file: OwnedFd,
    ring: Ring,
    events: u64,
}

impl MemoryRing {
    fn new(samples: &[Vec<u8>]) -> io::Result<MemoryRing> {
        // SAFETY: plain system calls and a static name.
        let (fd, page) = unsafe {
            (libc::memfd_create(c"ring".as_ptr(), 0), libc::sysconf(libc::_SC_PAGESIZE) as usize)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a fresh descriptor with no other owner.
        let file = unsafe { OwnedFd::from_raw_fd(fd) };
        let (mut data, mut events) = (Vec::with_capacity(RING), 0);
        for sample in samples.iter().cycle() {
            let whole = (sample.len() + HEADER).next_multiple_of(HEADER);
            if data.len() + whole > RING {
                break;
            }
            let end = data.len() + whole;
            data.extend_from_slice(&(sample.len() as u64).to_ne_bytes());
            data.extend_from_slice(sample);
            data.resize(end, 0);
            events += 1;
        }
        let produced = data.len().to_ne_bytes();
        data.resize(RING, 0);
        let all = [vec![0; page], produced.to_vec(), vec![0; page - produced.len()], data].concat();
        write(&file, &all)?;
        Ok(MemoryRing { ring: Ring::open(file.try_clone()?, RING)?, file, events })
    }

    /// Makes all events unread again.
    fn rewind(&self) {
        write(&self.file, &[0; 8]).expect("a memory file takes 8 bytes");
    }
}

fn write(file: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: as many readable bytes as said.
    let n = unsafe { libc::pwrite(file.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
    if n == bytes.len() as isize {
        return Ok(());
    }
    Err(io::Error::last_os_error())
}

fn ring(c: &mut Criterion) {
    let plan: Value = serde_json::from_str(PLAN).unwrap();
    let mut memory = MemoryRing::new(&samples(&plan)).expect("a ring in a memory file");
    let mut group = c.benchmark_group("ring");
    group.throughput(Throughput::Elements(memory.events));
    group.bench_function("drain", |b| {
        b.iter(|| {
            let mut events = 0;
            memory.rewind();
            memory.ring.drain(&mut |sample| {
                black_box(sample);
                events += 1;
                true
            })?;
            assert_eq!(events, memory.events);
            Ok::<_, _core::errors::Error>(())
        });
    });
    for name in ["none", "json", "columns"] {
        let Stage { mut source, lookups } = Stage::new(&plan, |ds| mode(ds, name));
        group.bench_function(format!("drain to {name}"), |b| {
            b.iter(|| {
                let mut events = 0;
                memory.rewind();
                while events < memory.events {
                    memory.ring.drain(&mut |sample| source.process(&lookups, sample)).unwrap();
                    events += black_box(source.take()).map_or(0, |out| out.events);
                }
                assert_eq!(events, memory.events);
            });
        });
    }
    group.finish();
}

fn backlog(c: &mut Criterion) {
    let plan: Value = serde_json::from_str(PLAN).unwrap();
    let samples = samples(&plan);
    let Stage { source, .. } = Stage::new(&plan, |ds| mode(ds, "json"));
    let mut group = c.benchmark_group("backlog");
    group.throughput(Throughput::Elements(EVENTS as u64));
    // Not emptied in between: as long as samples wait, the memory is used again.
    let mut backlog = Backlog::new(2 * MIN_BYTES, vec![source.texts()]);
    backlog.push(0, &samples[0]);
    for (stage, name) in ["copy in", "take out"].into_iter().enumerate() {
        group.bench_function(name, |b| {
            b.iter_custom(|rounds| {
                let mut spent = [Duration::ZERO; 2];
                for _ in 0..rounds {
                    let start = cpu_time();
                    samples.iter().for_each(|sample| backlog.push(0, sample));
                    let between = cpu_time();
                    for _ in &samples {
                        black_box(backlog.pop());
                    }
                    spent[0] += between - start;
                    spent[1] += cpu_time() - between;
                }
                spent[stage]
            });
        });
    }
    group.finish();
}

/// Of this thread: other processes of the machine do not count.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every thread has this clock").into()
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20);
    targets = stages, ring, backlog
}
criterion_main!(benches);
