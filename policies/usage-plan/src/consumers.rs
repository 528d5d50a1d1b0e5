//! Consumers, of whom there may be hundreds of thousands.
//!
//! Each is put into tables as soon as it is read, and into no more of them than it needs: most have
//! an id, a plan and a key, and that is what they take.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

use deserr::{Deserr, IntoValue, Sequence, Value, ValueKind, ValuePointerRef};
use tollgate_core::config::{ConfigErrors, Rejected, quote, wrong_kind};
use tollgate_core::name::Name;
use tollgate_core::name_list::{ListFull, NameList, NameListBuilder};
use tollgate_core::time::Instant3339;
use tollgate_quota_store::ConsumerTag;

use crate::compile::PlanNames;
use crate::config::{ClientConfig, ConsumerConfig};
use crate::keys::{KeyList, KeyPlace};

/// The consumers of a section, in the order in which they are written.
#[derive(Debug, Default)]
pub struct ConsumerList {
    ids: NameListBuilder,
    /// The plan of each, by its place among those that are named.
    plans: Vec<u32>,
    /// The plans that are named, in the order in which they come, and their places in it.
    named: Vec<Name>,
    places: HashMap<Name, u32>,
    since: Vec<(u32, Instant3339)>,
    clients: Vec<(u32, Vec<ClientConfig>)>,
    keys: KeyList,
}

impl Deserr<ConfigErrors> for ConsumerList {
    fn deserialize_from_value<V: IntoValue>(
        value: Value<V>,
        location: ValuePointerRef<'_>,
    ) -> Result<Self, ConfigErrors> {
        let items = match value {
            Value::Sequence(items) => items,
            actual => return Err(wrong_kind(actual, &[ValueKind::Sequence], location)),
        };
        let mut list = ConsumerList::with_capacity(items.len());
        let mut errors = ConfigErrors::default();
        for (index, item) in items.into_iter().enumerate() {
            let place = location.push_index(index);
            match ConsumerConfig::deserialize_from_value(item.into_value(), place) {
                Ok(consumer) => {
                    if list.push(consumer).is_err() {
                        errors.add("usage_plan.consumers", "found more ids than 4 GiB hold");
                        break;
                    }
                }
                Err(mistakes) => {
                    errors.append(mistakes);
                }
            }
        }
        match errors.is_empty() {
            true => Ok(list),
            false => Err(errors),
        }
    }
}

impl ConsumerList {
    fn with_capacity(consumers: usize) -> Self {
        ConsumerList {
            ids: NameListBuilder::with_capacity(consumers),
            plans: Vec::with_capacity(consumers),
            // Most have one.
            keys: KeyList::expecting(consumers),
            ..ConsumerList::default()
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    fn push(&mut self, consumer: ConsumerConfig) -> Result<(), ListFull> {
        let place = self.ids.push(consumer.id.as_str())?;
        let plan = match self.places.get(&consumer.plan) {
            Some(plan) => *plan,
            None => {
                let plan = u32::try_from(self.named.len()).map_err(|_| ListFull)?;
                self.named.push(consumer.plan.clone());
                self.places.insert(consumer.plan, plan);
                plan
            }
        };
        self.plans.push(plan);
        if let Some(since) = consumer.since {
            self.since.push((place, since));
        }
        if let Some(clients) = consumer.clients {
            self.clients.push((place, clients));
        }
        for (key, config) in (0..).zip(&consumer.keys) {
            let consumer = place;
            self.keys.push(KeyPlace { consumer, key }, config);
        }
        Ok(())
    }

    /// Takes the list apart, for each part to be compiled.
    pub(crate) fn split(self) -> Listed {
        Listed {
            ids: Arc::new(self.ids.build()),
            keys: self.keys,
            clients: self.clients,
            terms: Terms {
                plans: self.plans,
                named: self.named,
                since: self.since,
            },
        }
    }
}

/// A list of consumers, taken apart.
pub(crate) struct Listed {
    pub(crate) ids: Arc<NameList>,
    pub(crate) keys: KeyList,
    /// Those who list the clients by which token issuers know them.
    pub(crate) clients: Vec<(u32, Vec<ClientConfig>)>,
    pub(crate) terms: Terms,
}

/// On which plan each consumer is, and since when.
pub(crate) struct Terms {
    plans: Vec<u32>,
    named: Vec<Name>,
    since: Vec<(u32, Instant3339)>,
}

impl Terms {
    /// Finds the plans of the consumers with these ids.
    pub(crate) fn compile(
        self,
        ids: &Arc<NameList>,
        plans: &PlanNames,
        errors: &mut ConfigErrors,
    ) -> Result<Consumers, Rejected> {
        let has_repeated = ids.has_repeated();
        let found: Vec<Option<u16>> = self.named.iter().map(|name| plans.place(name)).collect();
        let mut since = self.since.iter().map(|(place, _)| *place).peekable();
        let mut of_each = Vec::with_capacity(self.plans.len());
        let mut verdict = Ok(());
        for (place, named) in (0_u32..).zip(self.plans) {
            let path = |field| format!("usage_plan.consumers[{place}].{field}");
            if has_repeated
                && let Some(id) = ids.get(place)
                && let Some(first) = ids.find(id).filter(|first| *first != place)
            {
                let message = format!(
                    "{} is already the id of usage_plan.consumers[{first}]; a consumer may have \
                     several keys, list them there",
                    quote(id)
                );
                verdict = Err(errors.add(path("id"), message));
            }
            let has_since = since.next_if_eq(&place).is_some();
            let named = usize::try_from(named).unwrap_or(usize::MAX);
            match (found.get(named).copied().flatten(), self.named.get(named)) {
                (Some(plan), _) if plans.has_offset(plan) && !has_since => {
                    verdict = Err(errors.add(
                        path("since"),
                        "is missing: the plan's quota has an offset in the consumer's first \
                         period, so write when that was, as since: 2026-11-15T00:00:00Z",
                    ));
                }
                (Some(plan), _) => of_each.push(plan),
                (None, Some(name)) => verdict = Err(plans.unknown(name, &path("plan"), errors)),
                // Every place that was given out has a name.
                (None, None) => verdict = Err(errors.add(path("plan"), "is not known")),
            }
        }
        let since = self.since.into_iter();
        let since = since.map(|(place, Instant3339(since))| (place, since.as_seconds()));
        verdict.map(|()| Consumers {
            ids: Arc::clone(ids),
            plans: of_each.into_boxed_slice(),
            since: since.collect(),
        })
    }
}

/// The consumers of the configuration, by their places.
pub(crate) struct Consumers {
    ids: Arc<NameList>,
    plans: Box<[u16]>,
    /// When they subscribed, in Unix seconds, of those for whom that is told; sorted by place.
    since: Box<[(u32, i64)]>,
}

/// A consumer, or all callers without a key.
#[derive(Clone, Copy)]
pub(crate) struct Consumer<'a> {
    pub(crate) id: &'a str,
    /// What its record is named after.
    pub(crate) record: &'a str,
    /// The plan's place.
    pub(crate) plan: u16,
    /// When it subscribed, in Unix seconds.
    pub(crate) since: Option<i64>,
}

impl Consumer<'_> {
    /// All callers without a key. The name of their record has a space, which no id has.
    pub(crate) fn anonymous(plan: u16) -> Self {
        Consumer {
            id: "anonymous",
            record: " anonymous",
            plan,
            since: None,
        }
    }
}

impl Consumers {
    pub(crate) fn get(&self, place: u32) -> Option<Consumer<'_>> {
        let id = self.ids.get(place)?;
        let index = usize::try_from(place).ok()?;
        let since = self.since.binary_search_by_key(&place, |(place, _)| *place);
        let since = since.ok().and_then(|found| self.since.get(found));
        Some(Consumer {
            id,
            record: id,
            plan: *self.plans.get(index)?,
            since: since.map(|(_, since)| *since),
        })
    }

    /// The consumers from a place on, with their places.
    pub(crate) fn from(&self, place: u32) -> impl Iterator<Item = (u32, Consumer<'_>)> {
        (place..).map_while(|place| Some((place, self.get(place)?)))
    }
}

/// The keys of records in the shared state: `tollgate/usage/<namespace> <consumer>`. The layout of
/// a record is versioned inside of it.
pub(crate) struct RecordKeys {
    /// No name has a space, so no two pairs of namespace and consumer make the same key.
    prefix: Box<str>,
    /// Where a key is written: there is no request without one, and no need for more than one at a
    /// time.
    written: Cell<String>,
}

impl RecordKeys {
    pub(crate) fn new(state: &str, namespace: &str) -> Self {
        RecordKeys {
            prefix: format!("tollgate/{state}/{namespace} ").into(),
            written: Cell::default(),
        }
    }

    /// How a store knows a consumer.
    pub(crate) fn tag(&self, consumer: Consumer<'_>) -> ConsumerTag {
        ConsumerTag::new(&self.prefix, consumer.record)
    }

    /// Does something with the key of a consumer's record.
    pub(crate) fn with<T>(&self, consumer: Consumer<'_>, act: impl FnOnce(&str) -> T) -> T {
        let mut key = self.written.take();
        key.clear();
        key.push_str(&self.prefix);
        key.push_str(consumer.record);
        let done = act(&key);
        self.written.set(key);
        done
    }

    /// What the keys of pages begin with that hold clients which the configuration does not name.
    pub(crate) fn of_clients(&self) -> Box<str> {
        format!("{} clients ", self.prefix).into()
    }
}
