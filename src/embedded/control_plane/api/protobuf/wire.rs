//! The wire format of Protocol Buffers (encoding guide, "Message Structure").

use super::ProtobufError;

/// One field of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire<'a> {
    /// A variable-length integer.
    Varint(u64),
    /// Eight bytes.
    Fixed64(u64),
    /// Four bytes.
    Fixed32(u32),
    /// A string, bytes, an embedded message or a packed list.
    Bytes(&'a [u8]),
}

/// Reads the next field's number and value; `None` at the end.
///
/// # Errors
/// A truncated field, or a wire type that is not used any more (groups).
pub fn next<'a>(rest: &mut &'a [u8]) -> Result<Option<(u32, Wire<'a>)>, ProtobufError> {
    if rest.is_empty() {
        return Ok(None);
    }
    let key = varint(rest)?;
    let number = u32::try_from(key >> 3).map_err(|_| ProtobufError::Truncated)?;
    let value = match key & 7 {
        0 => Wire::Varint(varint(rest)?),
        1 => Wire::Fixed64(u64::from_le_bytes(fixed(rest)?)),
        2 => {
            let length = usize::try_from(varint(rest)?).map_err(|_| ProtobufError::Truncated)?;
            let (bytes, after) = rest.split_at_checked(length).ok_or(ProtobufError::Truncated)?;
            *rest = after;
            Wire::Bytes(bytes)
        }
        5 => Wire::Fixed32(u32::from_le_bytes(fixed(rest)?)),
        other => return Err(ProtobufError::WireType(other)),
    };
    Ok(Some((number, value)))
}

/// Reads one variable-length integer.
///
/// # Errors
/// More than ten bytes, or the end of the text within it.
pub fn varint(rest: &mut &[u8]) -> Result<u64, ProtobufError> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let (byte, after) = rest.split_first().ok_or(ProtobufError::Truncated)?;
        *rest = after;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or_default();
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(ProtobufError::Truncated)
}

fn fixed<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], ProtobufError> {
    let (bytes, after) = rest.split_first_chunk::<N>().ok_or(ProtobufError::Truncated)?;
    *rest = after;
    Ok(*bytes)
}
