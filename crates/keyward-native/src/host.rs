//! Envoy, as this library calls it outside of requests.

use crate::abi::{self, Abi, Buffer, ConfigPtr, Header, SchedulerPtr};
use keyward_edge::host::Meter;
use smallvec::SmallVec;
use std::ffi::{CStr, c_void};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

/// Envoy's functions. Set once, when the library is loaded.
static ABI: OnceLock<Abi> = OnceLock::new();

/// Returns Envoy's functions. `None` means that the library was not loaded by an Envoy that has them.
pub fn abi() -> Option<&'static Abi> {
    ABI.get()
}

/// Takes these functions for Envoy's, for tests with a stand-in. It has an effect before the library is initialized alone.
pub fn install(abi: Abi) {
    let _ = ABI.set(abi);
}

/// Looks up Envoy's functions, and returns the version of the ABI that this Envoy expects.
///
/// # Errors
/// The name of a function that this Envoy does not have.
pub fn load() -> Result<&'static CStr, &'static str> {
    if let Some(abi) = ABI.get() {
        return Ok(abi.version());
    }
    // SAFETY: the name is a C string, and the handle is the one for all loaded objects. Envoy is the only object with
    // functions of these names, and `abi` declares them as Envoy does.
    let abi = unsafe { Abi::load(|name| libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr())) };
    abi.map(|abi| ABI.get_or_init(|| abi).version())
}

/// Writes a line to Envoy's log where only its logging function is known to be there.
pub fn log_without_abi(line: &str) {
    const NAME: &CStr = c"envoy_dynamic_module_callback_log";
    // SAFETY: the name is a C string.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, NAME.as_ptr()) };
    // SAFETY: null is `None`; otherwise it is Envoy's function of this name, which has had this signature from the start.
    let log = unsafe { std::mem::transmute::<*mut c_void, Option<unsafe extern "C" fn(u32, Buffer)>>(found) };
    if let Some(log) = log {
        // SAFETY: the text is live for the call, and Envoy copies it.
        unsafe { log(abi::LOG_ERROR, Buffer::lend(line.as_bytes())) };
    }
}

/// Writes a line to Envoy's log.
pub fn log(level: u32, line: &str) {
    if let Some(abi) = abi() {
        // SAFETY: the text is live for the call, and Envoy copies it. The function may be called on any thread.
        unsafe { (abi.log)(level, Buffer::lend(line.as_bytes())) };
    }
}

/// Returns whether Envoy only validates a configuration (`--mode validate`). Called on the main thread.
pub fn only_validates(abi: &Abi) -> bool {
    // SAFETY: no pointers.
    unsafe { (abi.is_validation_mode)() }
}

/// Returns a clock that never goes back, in nanoseconds.
pub fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live value of the type.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) } != 0;
    // Fail closed: in the far future every manifest is stale.
    if failed {
        return u64::MAX;
    }
    let ns = u64::try_from(time.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0);
    #[cfg(any(test, feature = "failpoint"))]
    let ns = ns + crate::failpoint::ahead_ns();
    ns
}

/// Returns a clock that never goes back.
pub fn now() -> Duration {
    Duration::from_nanos(monotonic_ns())
}

/// Returns the wall clock, in nanoseconds since 1970.
pub fn wall_clock_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    // Fail closed: in the far future every lifetime is over.
    since.ok().and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or(u64::MAX)
}

/// Copies bytes that Envoy lends.
///
/// # Safety
/// The buffer is null or points to as many live bytes as it says.
pub unsafe fn copy(buffer: Buffer) -> Vec<u8> {
    if buffer.ptr.is_null() || buffer.length == 0 {
        return Vec::new();
    }
    // SAFETY: not null, and by the caller's word live for this call.
    unsafe { std::slice::from_raw_parts(buffer.ptr.cast::<u8>(), buffer.length) }.to_vec()
}

/// Writes headers that Envoy lends as a serialized map, which [`Headers::parse`](keyward_edge::head::Headers::parse) reads.
/// They are copied because a change of any header may move or free the others.
///
/// # Safety
/// Names and values are live.
pub unsafe fn serialize(headers: &[Header]) -> Vec<u8> {
    let size: usize = headers.iter().map(|header| 10 + header.name_length + header.value_length).sum();
    let mut map = Vec::with_capacity(4 + size);
    map.extend_from_slice(&length(headers.len()).to_le_bytes());
    for header in headers {
        map.extend_from_slice(&length(header.name_length).to_le_bytes());
        map.extend_from_slice(&length(header.value_length).to_le_bytes());
    }
    for header in headers {
        for (ptr, length) in [(header.name, header.name_length), (header.value, header.value_length)] {
            if !ptr.is_null() {
                // SAFETY: not null, and by the caller's word live and of this length.
                map.extend_from_slice(unsafe { std::slice::from_raw_parts(ptr.cast::<u8>(), length) });
            }
            map.push(0);
        }
    }
    map
}

/// A length that does not fit makes the map unreadable, which refuses the request. Envoy's limit is far below.
fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// A metric of one configuration. `None` means that Envoy did not define it.
#[derive(Debug, Clone, Copy)]
pub struct Metric(pub Option<usize>);

/// One filter configuration, on the main thread.
#[derive(Debug, Clone, Copy)]
pub struct Configuration {
    abi: &'static Abi,
    config: ConfigPtr,
}

// SAFETY: the pointer is passed to Envoy on the main thread alone: in the hooks that Envoy calls there.
unsafe impl Send for Configuration {}

impl Configuration {
    /// Takes the pointer that Envoy passes to a hook of a configuration.
    ///
    /// # Safety
    /// The value must be used on the main thread alone, and not after the configuration is destroyed.
    pub unsafe fn new(abi: &'static Abi, config: ConfigPtr) -> Self {
        Self { abi, config }
    }

    /// Returns Envoy's functions.
    pub fn abi(self) -> &'static Abi {
        self.abi
    }

    /// Makes a scheduler, which calls `on_http_filter_config_scheduled` of this configuration.
    pub fn scheduler(self) -> Option<Scheduler> {
        // SAFETY: the configuration is live.
        let scheduler = unsafe { (self.abi.http_filter_config_scheduler_new)(self.config) };
        let commit = self.abi.http_filter_config_scheduler_commit;
        let delete = self.abi.http_filter_config_scheduler_delete;
        // SAFETY: Envoy has just made it, or has made none, and both functions are for this kind.
        unsafe { Scheduler::own(scheduler, commit, delete) }
    }

    /// Asks Envoy for a generic secret, from the `ConfigSource` that `sds_config` is as JSON, or from Envoy's static
    /// secrets where that is empty. It is possible while the configuration is made, and not later.
    ///
    /// # Errors
    /// Why there will be no secret, with what to do.
    pub fn secret(self, name: &str, sds_config: &str) -> Result<Secret, &'static str> {
        let (Some(subscribe), Some(get)) =
            (self.abi.http_filter_config_generic_secret_subscribe, self.abi.http_filter_config_get_generic_secret)
        else {
            return Err(
                "this Envoy hands no secrets to modules: use 1.40, name a variable in `admin.token_env`, or let \
                        the cluster's credential_injector add the token",
            );
        };
        let sds_config = if sds_config.is_empty() { Buffer::NULL } else { Buffer::lend(sds_config.as_bytes()) };
        // SAFETY: the configuration is live, and so are both texts for the call.
        let number = unsafe { subscribe(self.config, Buffer::lend(name.as_bytes()), sds_config) };
        if number == 0 {
            return Err(
                "Envoy does not take the secret, and its log says why: without `sds_config` the name is that of \
                        one of Envoy's static secrets",
            );
        }
        Ok(Secret { config: self.config, number, get })
    }

    /// Sends a request to a cluster. Returns Envoy's number for the call, or `None` where it does not begin.
    pub fn http_call(
        self,
        cluster: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
        timeout: Duration,
    ) -> Option<u64> {
        let mut list: SmallVec<[Header; 16]> =
            headers.iter().map(|(name, value)| Header::lend(name.as_bytes(), value.as_bytes())).collect();
        let timeout = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let mut id = 0;
        let (cluster, body) = (Buffer::lend(cluster.as_bytes()), body.map_or(Buffer::NULL, Buffer::lend));
        // SAFETY: the configuration is live, and so are all texts for the call; the out-pointer is to a live value.
        let result = unsafe {
            let (first, count) = (list.as_mut_ptr(), list.len());
            (self.abi.http_filter_config_http_callout)(self.config, &mut id, cluster, first, count, body, timeout)
        };
        (result == abi::SUCCESS).then_some(id)
    }
}

impl Meter for Configuration {
    type Metric = Metric;

    fn counter(self, name: &str) -> Metric {
        let mut id = 0;
        let (name, none) = (Buffer::lend(name.as_bytes()), std::ptr::null_mut());
        // SAFETY: the configuration is live, and so is the name; the out-pointer is to a live value; no labels.
        let result = unsafe { (self.abi.http_filter_config_define_counter)(self.config, name, none, 0, &mut id) };
        Metric((result == abi::SUCCESS).then_some(id))
    }

    fn gauge(self, name: &str) -> Metric {
        let mut id = 0;
        let (name, none) = (Buffer::lend(name.as_bytes()), std::ptr::null_mut());
        // SAFETY: as for a counter.
        let result = unsafe { (self.abi.http_filter_config_define_gauge)(self.config, name, none, 0, &mut id) };
        Metric((result == abi::SUCCESS).then_some(id))
    }

    fn add(self, counter: Metric, count: u64) {
        if let (Some(id), 1..) = (counter.0, count) {
            // SAFETY: the configuration is live, and there are no labels.
            unsafe { (self.abi.http_filter_config_increment_counter)(self.config, id, std::ptr::null_mut(), 0, count) };
        }
    }

    fn set(self, gauge: Metric, value: u64) {
        if let Some(id) = gauge.0 {
            // SAFETY: the configuration is live, and there are no labels.
            unsafe { (self.abi.http_filter_config_set_gauge)(self.config, id, std::ptr::null_mut(), 0, value) };
        }
    }
}

/// A secret that Envoy keeps up to date.
#[derive(Debug)]
pub struct Secret {
    config: ConfigPtr,
    /// Envoy's number for it within the configuration.
    number: usize,
    get: unsafe extern "C" fn(ConfigPtr, usize, *mut Buffer) -> bool,
}

// SAFETY: as for a configuration, the pointer is passed to Envoy on the main thread alone.
unsafe impl Send for Secret {}

impl Secret {
    /// Returns what the secret holds now. It is empty where Envoy does not have the secret yet.
    pub fn value(&self) -> Vec<u8> {
        let mut value = Buffer::NULL;
        // SAFETY: the configuration is live, the number is one that Envoy gave out for it, and the out-pointer is to a live
        // value.
        let found = unsafe { (self.get)(self.config, self.number, &mut value) };
        // SAFETY: Envoy has just written the buffer, and the secret changes on this thread alone.
        if found { unsafe { copy(value) } } else { Vec::new() }
    }
}

/// Calls back on the thread of a configuration or of a request. Dropped, it is deleted.
#[derive(Debug)]
pub struct Scheduler {
    scheduler: SchedulerPtr,
    commit: unsafe extern "C" fn(SchedulerPtr, u64),
    delete: unsafe extern "C" fn(SchedulerPtr),
}

// SAFETY: Envoy's schedulers may be used on any thread; a value of this type is used by one thread at a time, because it
// is not `Sync`.
unsafe impl Send for Scheduler {}

impl Scheduler {
    /// Takes over a scheduler. `None` means that Envoy made none: a value would delete what is not there.
    ///
    /// # Safety
    /// The pointer is null or that of a scheduler that belongs to nobody else, and the functions are those for it.
    pub unsafe fn own(
        scheduler: SchedulerPtr,
        commit: unsafe extern "C" fn(SchedulerPtr, u64),
        delete: unsafe extern "C" fn(SchedulerPtr),
    ) -> Option<Self> {
        if scheduler.is_null() { None } else { Some(Self { scheduler, commit, delete }) }
    }

    /// Asks for one call of the hook. Nothing happens where the configuration or the request is gone.
    pub fn commit(&self) {
        // SAFETY: the scheduler is live: it is deleted with this value.
        unsafe { (self.commit)(self.scheduler, 0) };
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        // SAFETY: the scheduler is live, and nobody uses it after this.
        unsafe { (self.delete)(self.scheduler) };
    }
}
