//! The agent's frames among everything else a console shows.
//!
//! A frame is `~TAG:BODY:LENGTH~`, `LENGTH` being the bytes of `BODY`. Xen writes its own lines at any byte and bytes get lost:
//! either leaves a frame with a wrong length or with a byte that no body has, and such a frame is dropped, to be asked for again.

/// The longest frame; a longer one has lost its end.
const LONGEST: usize = 512;

/// Finds frames in a stream of bytes.
pub(crate) struct Frames {
    start: Vec<u8>,
    buffer: Vec<u8>,
}

/// Bytes that a body consists of.
fn of_body(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"+/=: -".contains(&b)
}

impl Frames {
    /// Frames of the agent with this tag.
    pub(crate) fn new(tag: &str) -> Self {
        Frames { start: format!("~{tag}:").into_bytes(), buffer: Vec::new() }
    }

    /// Takes bytes, hands out the bodies of the frames they complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        self.buffer.extend_from_slice(bytes);
        let mut found = Vec::new();
        let mut from = 0;
        loop {
            let rest = &self.buffer[from..];
            let Some(at) = memchr::memmem::find(rest, &self.start) else {
                // The beginning of a start may be at the very end.
                from += rest.len() - rest.len().min(self.start.len() - 1);
                break;
            };
            from += at;
            let rest = &self.buffer[from + self.start.len()..];
            match rest.iter().position(|&b| !of_body(b)) {
                Some(end) if rest[end] == b'~' => {
                    if let Some(body) = whole(&rest[..end]) {
                        found.push(body);
                        from += self.start.len() + end + 1;
                        continue;
                    }
                }
                None if rest.len() <= LONGEST => break,
                _ => {}
            }
            from += 1;
        }
        self.buffer.drain(..from);
        found
    }
}

/// The body, when its length is what it says.
fn whole(frame: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(frame).ok()?;
    let (body, length) = text.rsplit_once(':')?;
    (length.parse() == Ok(body.len())).then(|| body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(body: &str) -> String {
        format!("~t1:{body}:{}~\r\n", body.len())
    }

    #[test]
    fn damaged_frames_are_dropped_and_the_next_found() {
        let mut frames = Frames::new("t1");
        let good = frame("D:1:o:0:aGVsbG8=");
        let noisy = good.replacen("aGV", "a(XEN) d0v1 lost\r\nGV", 1);
        let short = good.replacen("aGV", "aV", 1);
        let text = format!("# {noisy}{short}~t1:~t1:D:9{}~", frame("R:1:0"));
        assert_eq!(frames.push(text.as_bytes()), ["R:1:0"]);
        assert_eq!(frames.push(good.as_bytes()), ["D:1:o:0:aGVsbG8="]);
        assert!(frames.push(&vec![b'a'; 100_000]).is_empty());
        assert!(frames.buffer.len() < LONGEST);
    }

    proptest! {
        #[test]
        fn chopping_changes_nothing(cuts in prop::collection::vec(1usize..9, 0..40)) {
            let text = format!("boot\n{}(XEN) x\n~t1:{}~{}", frame("A:1:2"), frame("W:3"), frame("D:1:e:4:+/=="));
            let mut frames = Frames::new("t1");
            let (mut got, mut at) = (Vec::new(), 0);
            for c in cuts {
                let end = (at + c).min(text.len());
                got.extend(frames.push(&text.as_bytes()[at..end]));
                at = end;
            }
            got.extend(frames.push(&text.as_bytes()[at..]));
            prop_assert_eq!(got, ["A:1:2", "W:3", "D:1:e:4:+/=="]);
        }
    }
}
