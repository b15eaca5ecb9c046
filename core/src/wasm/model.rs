//! The data sources as the module sees them, and what it asks to be changed.

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;

use super::kinds::Kind;
use super::limits;
use crate::errors::{Error, Result};
use crate::schema::field::{Field, Fields};
use crate::schema::plan::Plan;

/// What a callback is called with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriptionKind {
    /// One event, or each element of an array.
    Data,
    Array,
    /// One event, or a whole array.
    Packet,
}

impl SubscriptionKind {
    pub fn of(number: u32) -> Option<SubscriptionKind> {
        match number {
            1 => Some(SubscriptionKind::Data),
            2 => Some(SubscriptionKind::Array),
            3 => Some(SubscriptionKind::Packet),
            _ => None,
        }
    }
}

#[derive(Serialize)]
pub struct Subscription {
    source: String,
    #[serde(rename = "type")]
    kind: u32,
    priority: i32,
    callback: u64,
}

#[derive(Serialize)]
struct AddedField {
    source: String,
    name: String,
    kind: u32,
}

#[derive(Serialize)]
struct AddedTag {
    source: String,
    field: String,
    tag: String,
}

#[derive(Serialize)]
struct AddedSource {
    name: String,
    array: bool,
}

/// What the module asked for since it was asked last; for Python, as JSON.
#[derive(Default, Serialize)]
pub struct Changes {
    datasources: Vec<AddedSource>,
    fields: Vec<AddedField>,
    tags: Vec<AddedTag>,
    unreferenced: Vec<String>,
    subscriptions: Vec<Subscription>,
    config: Vec<(String, String)>,
}

pub struct Source {
    pub name: String,
    pub array: bool,
    pub fields: Vec<Field>,
    by_name: HashMap<String, usize>,
    pub referenced: bool,
    /// The module made it.
    pub own: bool,
    /// This process makes its samples.
    pub pushed: bool,
    /// Indexes of fields that the module may set.
    settable: BTreeSet<usize>,
}

#[derive(Default)]
pub struct Model {
    pub sources: Vec<Source>,
    changes: Changes,
    /// Nothing can be added any more: the stream is open.
    sealed: bool,
    configured: usize,
    subscribed: usize,
    /// Fields and tags that the module has added to all data sources.
    fields: usize,
    tags: usize,
}

type Said<T> = std::result::Result<T, String>;

const SEALED: &str = "data sources and fields are made in gadgetInit or gadgetPreStart";

impl Model {
    /// Takes the data sources as Python declares them: a plan without readers. Those that are known
    /// already keep their place, and may have got fields.
    pub fn declare(&mut self, plan: &str) -> Result<()> {
        for ds in &Plan::parse(plan)?.datasources {
            let mut fields = Fields::compile(ds)?.list;
            // The slots of sample fields have what the module set.
            fields.iter_mut().for_each(|f| f.patched = true);
            let by_name = fields.iter().enumerate().map(|(i, f)| (f.full_name.clone(), i));
            let by_name: HashMap<String, usize> = by_name.collect();
            match self.sources.iter_mut().find(|s| s.name == ds.name) {
                Some(known) => {
                    let same = known.fields.len() <= fields.len()
                        && known
                            .fields
                            .iter()
                            .zip(&fields)
                            .all(|(a, b)| a.full_name == b.full_name);
                    if !same {
                        let what = format!("data source {}: its fields have moved", ds.name);
                        return Err(Error::plan(what));
                    }
                    (known.fields, known.by_name) = (fields, by_name);
                    known.pushed = ds.pushed;
                }
                None => self.sources.push(Source {
                    name: ds.name.clone(),
                    array: ds.array,
                    fields,
                    by_name,
                    referenced: true,
                    own: false,
                    pushed: ds.pushed,
                    settable: BTreeSet::new(),
                }),
            }
        }
        Ok(())
    }

    pub fn seal(&mut self) {
        self.sealed = true;
    }

    pub fn changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    pub fn find(&self, name: &str) -> Option<usize> {
        self.sources.iter().position(|s| s.name == name)
    }

    fn check_open(&self) -> Said<()> {
        if self.sealed {
            Err(SEALED.into())
        } else {
            Ok(())
        }
    }

    pub fn new_source(&mut self, name: &str, kind: u32) -> Said<usize> {
        self.check_open()?;
        check_name(name, limits::NAME)?;
        let array = match kind {
            1 => false,
            2 => true,
            n => return Err(format!("unknown type {n} of a data source")),
        };
        if self.find(name).is_some() {
            return Err(format!("data source {name:?} exists already"));
        }
        if self.sources.iter().filter(|s| s.own).count() >= limits::SOURCES {
            return Err(format!("more than {} data sources", limits::SOURCES));
        }
        self.sources.push(Source {
            name: name.to_string(),
            array,
            fields: Vec::new(),
            by_name: HashMap::new(),
            referenced: true,
            own: true,
            pushed: true,
            settable: BTreeSet::new(),
        });
        self.changes.datasources.push(AddedSource { name: name.to_string(), array });
        Ok(self.sources.len() - 1)
    }

    /// The field of this full name, of any case if there is none of exactly this name.
    pub fn field(&mut self, source: usize, name: &str) -> Said<usize> {
        let sealed = self.sealed;
        let source = &mut self.sources[source];
        let lower = || name.to_lowercase();
        let any_case = |s: &Source| {
            let wanted = lower();
            s.fields.iter().position(|f| f.full_name.to_lowercase() == wanted)
        };
        let found = source.by_name.get(name).copied().or_else(|| any_case(source));
        let index =
            found.ok_or_else(|| format!("data source {} has no field {name:?}", source.name))?;
        if !sealed {
            source.settable.insert(index);
        }
        Ok(index)
    }

    pub fn add_field(&mut self, source: usize, name: &str, kind: u32) -> Said<usize> {
        self.check_open()?;
        check_name(name, limits::NAME)?;
        let known = Kind::of(kind).ok_or_else(|| format!("unknown kind {kind} of a field"))?;
        let source = &mut self.sources[source];
        if source.by_name.contains_key(name) {
            return Err(format!("data source {} has field {name:?} already", source.name));
        }
        if self.fields >= limits::FIELDS {
            return Err(format!("more than {} fields", limits::FIELDS));
        }
        self.fields += 1;
        let index = source.fields.len();
        source.fields.push(Field::added(name, known.of_field()));
        source.by_name.insert(name.to_string(), index);
        source.settable.insert(index);
        let added = AddedField { source: source.name.clone(), name: name.to_string(), kind };
        self.changes.fields.push(added);
        Ok(index)
    }

    pub fn add_tag(&mut self, source: usize, field: usize, tag: &str) -> Said<()> {
        self.check_open()?;
        check_name(tag, limits::TAG)?;
        self.tags += 1;
        if self.tags > limits::TAGS {
            return Err(format!("more than {} tags", limits::TAGS));
        }
        let source = &self.sources[source];
        self.changes.tags.push(AddedTag {
            source: source.name.clone(),
            field: source.fields[field].full_name.clone(),
            tag: tag.to_string(),
        });
        Ok(())
    }

    pub fn unreference(&mut self, source: usize) -> Said<()> {
        self.check_open()?;
        if std::mem::replace(&mut self.sources[source].referenced, false) {
            self.changes.unreferenced.push(self.sources[source].name.clone());
        }
        Ok(())
    }

    pub fn subscribe(&mut self, source: usize, kind: u32, priority: i32, id: u64) -> Said<()> {
        let known = SubscriptionKind::of(kind);
        let found = &self.sources[source];
        match known {
            None => return Err(format!("unknown type {kind} of a subscription")),
            Some(SubscriptionKind::Array) if !found.array => {
                return Err(format!("data source {} has no arrays", found.name));
            }
            Some(_) => {}
        }
        self.subscribed += 1;
        if self.subscribed > limits::SUBSCRIPTIONS {
            return Err(format!("more than {} subscriptions", limits::SUBSCRIPTIONS));
        }
        let source = found.name.clone();
        self.changes.subscriptions.push(Subscription { source, kind, priority, callback: id });
        Ok(())
    }

    pub fn configure(&mut self, key: &str, value: &str) -> Said<()> {
        if self.sealed {
            return Err("the configuration is set in gadgetInit or gadgetPreStart".into());
        }
        check_name(key, limits::CONFIG_TEXT)?;
        if value.len() > limits::CONFIG_TEXT {
            return Err(format!("a value of {} bytes", value.len()));
        }
        self.configured += 1;
        if self.configured > limits::CONFIG {
            return Err(format!("more than {} values", limits::CONFIG));
        }
        self.changes.config.push((key.to_string(), value.to_string()));
        Ok(())
    }

    pub fn is_settable(&self, source: usize, field: usize) -> bool {
        let source = &self.sources[source];
        source.own || source.settable.contains(&field)
    }

    /// Full names of the fields that the module may set.
    pub fn settable(&self, source: usize) -> impl Iterator<Item = &str> {
        let source = &self.sources[source];
        source.settable.iter().map(|index| source.fields[*index].full_name.as_str())
    }
}

fn check_name(name: &str, most: usize) -> Said<()> {
    if name.is_empty() || name.len() > most || name.contains(char::is_control) {
        return Err(format!("a name of {} bytes, or with control characters", name.len()));
    }
    Ok(())
}
