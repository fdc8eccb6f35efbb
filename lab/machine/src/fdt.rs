//! Nodes added to a flattened device tree: QEMU's own, to which the domains are added that Xen makes by itself.
//!
//! The format is that of the Devicetree Specification, chapter 5: a header, reserved memory, the structure (tokens and their data, in words
//! of four bytes, big-endian) and the strings that properties are named by. Nothing is understood but where a node ends.

use std::collections::BTreeMap;

/// A node and what is in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name, with its unit address.
    pub name: String,
    /// Its properties in their order.
    pub properties: Vec<(String, Vec<u8>)>,
    /// The nodes below it.
    pub children: Vec<Node>,
}

impl Node {
    /// A node without anything.
    pub fn new(name: impl Into<String>) -> Node {
        Node { name: name.into(), ..Node::default() }
    }

    /// With a property of these bytes.
    #[must_use]
    pub fn bytes(mut self, name: &str, value: Vec<u8>) -> Node {
        self.properties.push((name.to_owned(), value));
        self
    }

    /// With a property that has no value: it is there.
    #[must_use]
    pub fn flag(self, name: &str) -> Node {
        self.bytes(name, Vec::new())
    }

    /// With a property of 32-bit cells.
    #[must_use]
    pub fn cells(self, name: &str, cells: &[u32]) -> Node {
        self.bytes(name, cells.iter().flat_map(|c| c.to_be_bytes()).collect())
    }

    /// With a property of 64-bit numbers, of two cells each.
    #[must_use]
    pub fn numbers(self, name: &str, numbers: &[u64]) -> Node {
        self.bytes(name, numbers.iter().flat_map(|n| n.to_be_bytes()).collect())
    }

    /// With a property of strings, each ended by a zero.
    #[must_use]
    pub fn strings(self, name: &str, strings: &[&str]) -> Node {
        self.bytes(name, strings.iter().flat_map(|s| s.bytes().chain([0])).collect())
    }

    /// With a node below it.
    #[must_use]
    pub fn child(mut self, node: Node) -> Node {
        self.children.push(node);
        self
    }
}

/// Why a tree cannot be added to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FdtError {
    /// It is none, or it is cut off.
    #[error("this is no device tree: {0}")]
    Damaged(&'static str),
    /// It has no such node.
    #[error("the device tree has no node /{0}")]
    NoNode(String),
}

const MAGIC: u32 = 0xd00d_feed;
/// Ten words: version 17 of the format, which QEMU and dtc write.
const HEADER: usize = 40;
const BEGIN_NODE: u32 = 1;
const END_NODE: u32 = 2;
const PROP: u32 = 3;
const NOP: u32 = 4;
const END: u32 = 9;

/// The tree with `nodes` at the end of the node `under`, one below the root.
///
/// # Errors
/// [`FdtError`], when it is no tree or has no such node.
pub fn add(tree: &[u8], under: &str, nodes: &[Node]) -> Result<Vec<u8>, FdtError> {
    let word = |at: usize| {
        let bytes = at.checked_add(4).and_then(|end| tree.get(at..end)).and_then(|b| b.try_into().ok());
        bytes.map(u32::from_be_bytes).ok_or(FdtError::Damaged("it is cut off"))
    };
    let offset = |at: usize| word(at).map(|w| w as usize);
    if word(0)? != MAGIC {
        return Err(FdtError::Damaged("it does not begin as one"));
    }
    let block = |from: usize, size: usize| {
        let end = from.checked_add(size);
        end.and_then(|end| tree.get(from..end)).ok_or(FdtError::Damaged("it is cut off"))
    };
    let structure = block(offset(8)?, offset(36)?)?;
    let mut strings = block(offset(12)?, offset(32)?)?.to_vec();
    let reserved = reserved(tree, offset(16)?)?;
    let at = end_of(structure, under)?;

    let mut named = BTreeMap::new();
    let mut added = Vec::new();
    for node in nodes {
        write(node, &mut added, &mut strings, &mut named);
    }
    let (before, after) = structure.split_at(at);
    let structure = [before, &added, after].concat();

    let (from_reserved, from_structure) = (HEADER, HEADER + reserved.len());
    let from_strings = from_structure + structure.len();
    let total = from_strings + strings.len();
    let size = |n: usize| u32::try_from(n).map_err(|_| FdtError::Damaged("it is too large"));
    let header = [
        MAGIC,
        size(total)?,
        size(from_structure)?,
        size(from_strings)?,
        size(from_reserved)?,
        word(20)?,
        word(24)?,
        word(28)?,
        size(strings.len())?,
        size(structure.len())?,
    ];
    let header: Vec<u8> = header.iter().flat_map(|w| w.to_be_bytes()).collect();
    Ok([header, reserved.to_vec(), structure, strings].concat())
}

/// The entries of reserved memory, with the one of zeros that ends them.
fn reserved(tree: &[u8], from: usize) -> Result<&[u8], FdtError> {
    const ENTRY: usize = 16;
    let all = tree.get(from..).ok_or(FdtError::Damaged("it is cut off"))?;
    let entries = all.chunks_exact(ENTRY).position(|entry| entry.iter().all(|b| *b == 0));
    let entries = entries.ok_or(FdtError::Damaged("its reserved memory has no end"))?;
    Ok(&all[..(entries + 1) * ENTRY])
}

/// Where in the structure the token is that ends this node below the root.
fn end_of(structure: &[u8], name: &str) -> Result<usize, FdtError> {
    let cut = FdtError::Damaged("its structure is cut off");
    let word = |at: usize| {
        let bytes = structure.get(at..at + 4).and_then(|b| b.try_into().ok());
        bytes.map(u32::from_be_bytes).ok_or(cut.clone())
    };
    let (mut at, mut depth, mut within) = (0, 0usize, false);
    loop {
        let token = word(at)?;
        let from = at + 4;
        match token {
            BEGIN_NODE => {
                let rest = structure.get(from..).ok_or(cut.clone())?;
                let length = rest.iter().position(|b| *b == 0).ok_or(cut.clone())?;
                depth += 1;
                within |= depth == 2 && &rest[..length] == name.as_bytes();
                at = (from + length + 1).next_multiple_of(4);
            }
            END_NODE => {
                if within && depth == 2 {
                    return Ok(at);
                }
                depth = depth.checked_sub(1).ok_or(FdtError::Damaged("its nodes end before they begin"))?;
                at = from;
            }
            PROP => {
                let length = word(from)? as usize;
                let end = (from + 8).checked_add(length).and_then(|end| end.checked_next_multiple_of(4));
                at = end.ok_or(cut.clone())?;
            }
            NOP => at = from,
            END => return Err(FdtError::NoNode(name.to_owned())),
            _ => return Err(FdtError::Damaged("its structure has an unknown token")),
        }
    }
}

fn write(node: &Node, to: &mut Vec<u8>, strings: &mut Vec<u8>, named: &mut BTreeMap<String, u32>) {
    let word = |to: &mut Vec<u8>, word: u32| to.extend(word.to_be_bytes());
    let pad = |to: &mut Vec<u8>| to.resize(to.len().next_multiple_of(4), 0);
    word(to, BEGIN_NODE);
    to.extend(node.name.bytes().chain([0]));
    pad(to);
    for (name, value) in &node.properties {
        let at = *named.entry(name.clone()).or_insert_with(|| {
            let at = strings.len();
            strings.extend(name.bytes().chain([0]));
            // A tree of 4 GiB is refused when it is put together.
            u32::try_from(at).unwrap_or(u32::MAX)
        });
        word(to, PROP);
        word(to, u32::try_from(value.len()).unwrap_or(u32::MAX));
        word(to, at);
        to.extend(value);
        pad(to);
    }
    for child in &node.children {
        write(child, to, strings, named);
    }
    word(to, END_NODE);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smallest tree: a root with nothing in it.
    fn empty() -> Vec<u8> {
        let structure: Vec<u8> =
            [BEGIN_NODE, 0, END_NODE, END].iter().flat_map(|w| w.to_be_bytes()).collect();
        let words = [MAGIC, 72, 56, 72, 40, 17, 16, 0, 0, 16];
        let header: Vec<u8> = words.iter().flat_map(|w: &u32| w.to_be_bytes()).collect();
        [header, vec![0; 16], structure].concat()
    }

    /// A tree with nodes below the root, made by the same code: its nodes go before the root's end.
    fn tree(nodes: &[Node]) -> Vec<u8> {
        let mut all = empty();
        // The root is called by the empty name and is at depth 1; what `add` looks for is below it.
        let mut added = Vec::new();
        let (mut strings, mut named) = (Vec::new(), BTreeMap::new());
        for node in nodes {
            write(node, &mut added, &mut strings, &mut named);
        }
        let grown = u32::try_from(added.len()).unwrap();
        all.splice(64..64, added);
        all.extend(&strings);
        let put =
            |all: &mut Vec<u8>, at: usize, word: u32| all[at..at + 4].copy_from_slice(&word.to_be_bytes());
        let length = u32::try_from(all.len()).unwrap();
        put(&mut all, 4, length);
        put(&mut all, 12, 72 + grown);
        put(&mut all, 32, u32::try_from(strings.len()).unwrap());
        put(&mut all, 36, 16 + grown);
        all
    }

    /// Reads a tree back, by another way than it is written.
    fn read(tree: &[u8]) -> Node {
        let word = |at: usize| u32::from_be_bytes(tree[at..at + 4].try_into().unwrap()) as usize;
        assert_eq!((word(0), word(4)), (MAGIC as usize, tree.len()));
        let text = |at: usize| {
            let end = tree[at..].iter().position(|b| *b == 0).unwrap();
            String::from_utf8(tree[at..at + end].to_vec()).unwrap()
        };
        let (mut at, strings, mut open, mut root) = (word(8), word(12), Vec::<Node>::new(), None);
        loop {
            at += 4;
            match u32::try_from(word(at - 4)).unwrap() {
                BEGIN_NODE => {
                    open.push(Node::new(text(at)));
                    at = (at + text(at).len() + 1).next_multiple_of(4);
                }
                PROP => {
                    let value = tree[at + 8..at + 8 + word(at)].to_vec();
                    let name = text(strings + word(at + 4));
                    open.last_mut().unwrap().properties.push((name, value));
                    at = (at + 8 + word(at)).next_multiple_of(4);
                }
                END_NODE => {
                    let node = open.pop().unwrap();
                    match open.last_mut() {
                        Some(above) => above.children.push(node),
                        None => root = Some(node),
                    }
                }
                END => return root.unwrap(),
                NOP => {}
                other => panic!("{other}"),
            }
        }
    }

    fn board() -> Vec<Node> {
        vec![
            Node::new("chosen-not").flag("x").child(Node::new("chosen")),
            Node::new("chosen")
                .strings("bootargs", &["console=dtuart"])
                .child(Node::new("module@1").numbers("reg", &[1, 2])),
            Node::new("cpus").cells("#address-cells", &[1]),
        ]
    }

    fn domain() -> Node {
        Node::new("d1").strings("compatible", &["xen,domain"]).numbers("memory", &[131_072]).flag("vpl011")
    }

    #[test]
    fn nodes_are_added_at_the_end_of_the_one_that_is_named() {
        let before = tree(&board());
        assert_eq!(read(&before).children, board());
        let after =
            add(&before, "chosen", &[domain(), Node::new("d2").child(Node::new("module@2"))]).unwrap();
        let mut wanted = board();
        wanted[1].children.extend([domain(), Node::new("d2").child(Node::new("module@2"))]);
        assert_eq!(read(&after).children, wanted);
        // And again, to what was written here.
        let again = add(&after, "cpus", &[domain()]).unwrap();
        wanted[2].children.push(domain());
        assert_eq!(read(&again).children, wanted);
        assert_eq!(read(&add(&before, "chosen", &[]).unwrap()).children, board());
    }

    /// Values and names of every length come back as they were: all that is padded is padded.
    #[test]
    fn any_length() {
        for n in 0..40usize {
            let name = "n".repeat(n + 1);
            let node = Node::new(name.clone()).bytes(&name, vec![7; n]).bytes("second", vec![1; 40 - n]);
            let tree = add(&tree(&board()), "chosen", std::slice::from_ref(&node)).unwrap();
            assert_eq!(read(&tree).children[1].children[1], node);
        }
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        let whole = tree(&board());
        assert_eq!(add(&whole, "nowhere", &[]), Err(FdtError::NoNode("nowhere".into())));
        assert_eq!(add(&empty(), "chosen", &[]), Err(FdtError::NoNode("chosen".into())));
        assert!(matches!(
            add(b"no tree, but long enough to be one, as it seems", "chosen", &[]),
            Err(FdtError::Damaged(_))
        ));
        // However it is cut, it is refused and not read past its end.
        for end in 0..whole.len() {
            assert!(add(&whole[..end], "chosen", &[domain()]).is_err(), "{end}");
        }
        // And whatever stands in it, nothing panics.
        for at in 0..whole.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut broken = whole.clone();
                broken[at] = byte;
                let _ = add(&broken, "chosen", &[domain()]);
            }
        }
    }
}
