//! libnftables(3), loaded when the agent starts: what `nft` does, without a process for each
//! change (2 ms) and without C headers to build with. All that is unsafe about it is here.

use std::ffi::{CStr, CString, c_char, c_int, c_uint};
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use libloading::Library;

use crate::host::error::NftError;

/// The library's name, with the version of its interface (Debian package `libnftables1`).
const LIBRARY: &str = "libnftables.so.1";
/// `NFT_CTX_OUTPUT_STATELESS`, `_JSON` and `_TERSE` (`nftables/libnftables.h`).
const OUTPUT_STATELESS: c_uint = 1 << 2;
const OUTPUT_JSON: c_uint = 1 << 4;
const OUTPUT_TERSE: c_uint = 1 << 11;

/// How often a command is begun anew.
const ATTEMPTS: u32 = 50;
/// The C locale's words for `EINTR`; the library gives no numbers.
const INTERRUPTED: &str = "Interrupted system call";

/// Held while the library works. It asks the C library which number a protocol's name stands for, and the
/// name of a number (`getprotobyname`, `getprotobynumber`): of these there is one answer for all threads at
/// a time, so that `tcp` would be made, or listed, as what another thread has just asked for.
static WORKING: Mutex<()> = Mutex::new(());

/// What a command prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Output {
    /// Text without counters and elements.
    Chains,
    /// The same with counters.
    Counters,
    /// JSON, elements included.
    Json,
    /// JSON without counters and the elements of named sets.
    JsonChains,
}

#[repr(C)]
struct RawContext {
    _opaque: [u8; 0],
}

type ContextToInt = unsafe extern "C" fn(*mut RawContext) -> c_int;
type ContextToText = unsafe extern "C" fn(*mut RawContext) -> *const c_char;

/// The functions that are used, valid as long as the library is loaded.
struct Functions {
    free: unsafe extern "C" fn(*mut RawContext),
    set_output_flags: unsafe extern "C" fn(*mut RawContext, c_uint),
    output: ContextToText,
    errors: ContextToText,
    run: unsafe extern "C" fn(*mut RawContext, *const c_char) -> c_int,
}

/// One conversation with the kernel's nftables, in the network namespace of the thread that
/// opened it. It stays with that thread.
pub(super) struct Context {
    raw: NonNull<RawContext>,
    functions: Functions,
    // Last, so that it is unloaded after the context is freed.
    _library: Library,
}

impl Context {
    /// Loads the library and opens a socket.
    pub(super) fn open() -> Result<Self, NftError> {
        // SAFETY: libnftables runs no code of consequence when it is loaded or unloaded, and the
        // types below are those of `nftables/libnftables.h`, which the version in its name fixes.
        unsafe {
            let library = Library::new(LIBRARY).map_err(NftError::Load)?;
            let new: unsafe extern "C" fn(u32) -> *mut RawContext = symbol(&library, c"nft_ctx_new")?;
            let buffer_output: ContextToInt = symbol(&library, c"nft_ctx_buffer_output")?;
            let buffer_errors: ContextToInt = symbol(&library, c"nft_ctx_buffer_error")?;
            let functions = Functions {
                free: symbol(&library, c"nft_ctx_free")?,
                set_output_flags: symbol(&library, c"nft_ctx_output_set_flags")?,
                output: symbol(&library, c"nft_ctx_get_output_buffer")?,
                errors: symbol(&library, c"nft_ctx_get_error_buffer")?,
                run: symbol(&library, c"nft_run_cmd_from_buffer")?,
            };
            let raw = NonNull::new(new(0)).ok_or(NftError::Context)?;
            let context = Self { raw, functions, _library: library };
            if buffer_output(raw.as_ptr()) != 0 || buffer_errors(raw.as_ptr()) != 0 {
                return Err(NftError::Context);
            }
            Ok(context)
        }
    }

    /// Runs commands as `nft -f` does, all of them or none, and gives what they print. What is
    /// interrupted because the rules changed meanwhile is begun anew; not everything in the library
    /// does so by itself (1.0.6: `get element`). Commands must bear being run twice.
    pub(super) fn run(&mut self, commands: &str, output: Output) -> Result<String, NftError> {
        for _ in 1..ATTEMPTS {
            match self.run_once(commands, output) {
                Err(NftError::Refused { message }) if message.contains(INTERRUPTED) => {}
                other => return other,
            }
        }
        self.run_once(commands, output)
    }

    fn run_once(&mut self, commands: &str, output: Output) -> Result<String, NftError> {
        let refused = |message: String| NftError::Refused { message };
        let text = CString::new(commands).map_err(|error| refused(error.to_string()))?;
        let flags = match output {
            Output::Chains => OUTPUT_STATELESS | OUTPUT_TERSE,
            Output::Counters => OUTPUT_TERSE,
            Output::Json => OUTPUT_JSON,
            Output::JsonChains => OUTPUT_JSON | OUTPUT_STATELESS | OUTPUT_TERSE,
        };
        let raw = self.raw.as_ptr();
        let _alone = WORKING.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the context lives, `text` outlives the calls, and the buffers that are read
        // stay valid until the next call to `run`, which needs `self` mutably.
        unsafe {
            (self.functions.set_output_flags)(raw, flags);
            let failed = (self.functions.run)(raw, text.as_ptr()) != 0;
            let (printed, errors) =
                (owned((self.functions.output)(raw)), owned((self.functions.errors)(raw)));
            if failed { Err(refused(errors.trim().to_owned())) } else { Ok(printed) }
        }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the context came from `nft_ctx_new` and is used no more.
        unsafe { (self.functions.free)(self.raw.as_ptr()) }
    }
}

/// # Safety
///
/// `T` must be the type of the function of that name.
unsafe fn symbol<T: Copy>(library: &Library, name: &CStr) -> Result<T, NftError> {
    // SAFETY: promised by the caller.
    unsafe { library.get::<T>(name.to_bytes_with_nul()).map(|symbol| *symbol).map_err(NftError::Load) }
}

/// # Safety
///
/// `text` must be null or point to a text that ends with a NUL.
unsafe fn owned(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: promised by the caller.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
