//! The nesting of a data source's fields, as JSON and YAML print it.

use crate::schema::field::Fields;

/// A field with its children, both sorted by name bytewise.
pub struct Node {
    pub index: usize,
    pub children: Vec<Node>,
}

/// Top-level nodes; fields kept out of JSON are left out with their children.
pub fn build(fields: &Fields) -> Vec<Node> {
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); fields.list.len()];
    let mut top = Vec::new();
    for (index, field) in fields.list.iter().enumerate() {
        if !field.json {
            continue;
        }
        match field.parent {
            Some(parent) => children[parent].push(index),
            None => top.push(index),
        }
    }
    nodes(fields, top, &mut children)
}

/// Depth is bounded when the fields are compiled.
fn nodes(fields: &Fields, mut of: Vec<usize>, children: &mut [Vec<usize>]) -> Vec<Node> {
    of.sort_by(|a, b| fields.list[*a].name.as_bytes().cmp(fields.list[*b].name.as_bytes()));
    of.into_iter()
        .map(|index| {
            let below = std::mem::take(&mut children[index]);
            Node { index, children: nodes(fields, below, children) }
        })
        .collect()
}
