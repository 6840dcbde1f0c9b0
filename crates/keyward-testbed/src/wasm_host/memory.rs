//! Reading from and writing to the module's memory.

use super::state::{Fields, State};
use wasmi::{Caller, Error, Extern, Memory};

/// A host call in progress.
pub type Call<'a> = Caller<'a, State>;

fn memory(call: &Call<'_>) -> Result<Memory, Error> {
    call.get_export("memory").and_then(Extern::into_memory).ok_or_else(|| Error::new("the module has no memory"))
}

/// Bytes that the module points at.
pub fn read(call: &Call<'_>, pointer: u32, length: u32) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; length as usize];
    memory(call)?.read(call, pointer as usize, &mut bytes).map_err(|_| Error::new("a pointer out of bounds"))?;
    Ok(bytes)
}

/// The same as text.
pub fn read_text(call: &Call<'_>, pointer: u32, length: u32) -> Result<String, Error> {
    Ok(String::from_utf8_lossy(&read(call, pointer, length)?).into_owned())
}

/// Writes to where the module points.
pub fn write(call: &mut Call<'_>, pointer: u32, bytes: &[u8]) -> Result<(), Error> {
    memory(call)?.write(call, pointer as usize, bytes).map_err(|_| Error::new("a pointer out of bounds"))
}

/// Gives the module bytes in memory that it allocates, as Envoy does: nothing is allocated for an empty value,
/// whose pointer is null.
pub fn give(call: &mut Call<'_>, bytes: &[u8], pointer: u32, size: u32) -> Result<(), Error> {
    let length = u32::try_from(bytes.len()).map_err(|_| Error::new("too long"))?;
    let mut at = 0;
    if length > 0 {
        let allocate = ["proxy_on_memory_allocate", "malloc"].into_iter().find_map(|name| call.get_export(name));
        let allocate = allocate.and_then(Extern::into_func).ok_or_else(|| Error::new("the module has no allocator"))?;
        at = allocate.typed::<u32, u32>(&*call)?.call(&mut *call, length)?;
        write(call, at, bytes)?;
    }
    write(call, pointer, &at.to_le_bytes())?;
    write(call, size, &length.to_le_bytes())
}

/// Header fields in the form of the ABI: count, then the lengths, then each name and value with a NUL after it.
pub fn encode_fields(fields: &Fields) -> Vec<u8> {
    let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
    let mut out = number(fields.len()).to_vec();
    for (name, value) in fields {
        out.extend(number(name.len()));
        out.extend(number(value.len()));
    }
    for (name, value) in fields {
        out.extend([name, b"\0".as_slice(), value, b"\0"].concat());
    }
    out
}

/// The reverse.
pub fn decode_fields(bytes: &[u8]) -> Option<Fields> {
    let number = |at: usize| {
        bytes.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(|bytes| u32::from_le_bytes(bytes) as usize)
    };
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    let count = number(0)?;
    let mut at = 4 + count * 8;
    let mut fields = Vec::new();
    for index in 0..count {
        let (name, value) = (number(4 + index * 8)?, number(8 + index * 8)?);
        fields.push((bytes.get(at..at + name)?.to_vec(), bytes.get(at + name + 1..at + name + 1 + value)?.to_vec()));
        at += name + value + 2;
    }
    Some(fields)
}
