//! Where in the shared state a client's bucket is kept.

use tollgate_core::host::{Expected, Host, SharedUnavailable};
use tollgate_core::policy::Mode;
use tollgate_core::shared::{ATTEMPTS, Update, UpdateFailed, update};
use tollgate_rate_table::{ClientHash, Page, Slot, TableSize};

use crate::key::Key;

/// The entries of a limit.
pub(crate) struct Places {
    /// `tollgate/limit/<namespace> <limit>`, and the number of pages where there are pages: a table
    /// of another size is another table.
    prefix: String,
    /// `None` if each client has an entry of its own.
    table: Option<TableSize>,
}

/// The entry of a client.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    key: String,
    client: ClientHash,
    /// Whether the entry is the client's alone.
    own: bool,
}

/// An entry as it was read, and what must hold for it to be written.
pub(crate) struct Opened<S> {
    pub(crate) page: Page<S>,
    expected: Expected,
}

impl Places {
    pub(crate) fn new(
        namespace: &str,
        limit: &str,
        mode: Mode,
        key: &Key,
        table: TableSize,
    ) -> Self {
        // A limit that is only tried out must not use up what another one grants.
        let state = match mode {
            Mode::Enforce => "limit",
            Mode::Shadow => "shadow-limit",
        };
        let prefix = format!("tollgate/{state}/{namespace} {limit}");
        match key.is_bounded() {
            true => Places {
                prefix,
                table: None,
            },
            false => Places {
                prefix: format!("{prefix} {}", table.pages()),
                table: Some(table),
            },
        }
    }

    /// The place of a client; `names` writes what tells it from others where it has its own entry.
    pub(crate) fn of(&self, client: ClientHash, names: impl FnOnce(&mut String)) -> Place {
        let mut key = String::with_capacity(64);
        key.push_str(&self.prefix);
        match self.table {
            None => names(&mut key),
            Some(table) => {
                key.push(' ');
                let mut digits = itoa::Buffer::new();
                key.push_str(digits.format(client.page(table)));
            }
        }
        Place {
            key,
            client,
            own: self.table.is_none(),
        }
    }
}

impl Place {
    pub(crate) fn client(&self) -> ClientHash {
        self.client
    }

    fn page<S: Slot>(&self, bytes: Option<Vec<u8>>) -> Page<S> {
        let bytes = bytes.unwrap_or_default();
        match self.own {
            true => Page::of_one_client(bytes),
            false => Page::from_bytes(bytes),
        }
    }

    /// Reads the entry.
    pub(crate) fn open<S: Slot, H: Host>(&self, host: &H) -> Result<Opened<S>, UpdateFailed> {
        let read = host.shared_get(&self.key);
        let (bytes, expected) = match read.map_err(|SharedUnavailable| UpdateFailed::Unavailable)? {
            Some(entry) => (Some(entry.bytes), Expected::Version(entry.version)),
            None => (None, Expected::Absent),
        };
        Ok(Opened {
            page: self.page(bytes),
            expected,
        })
    }

    /// Changes the entry by `change`, which says whether it must be stored. `opened` spares reading
    /// it where that was done before.
    pub(crate) fn update<S: Slot, H: Host, T>(
        &self,
        host: &H,
        opened: Option<Opened<S>>,
        mut change: impl FnMut(&mut Page<S>) -> (bool, T),
    ) -> Result<T, UpdateFailed> {
        if let Some(Opened { mut page, expected }) = opened {
            let (changed, outcome) = change(&mut page);
            if !changed
                || host
                    .shared_set(&self.key, page.as_bytes(), expected)
                    .is_ok()
            {
                return Ok(outcome);
            }
            // Another worker was faster, or the state is gone; reading it again tells.
        }
        update(host, &self.key, ATTEMPTS, |bytes| {
            let mut page = self.page(bytes);
            match change(&mut page) {
                (true, outcome) => Update::Write(page.into_bytes(), outcome),
                (false, outcome) => Update::Keep(outcome),
            }
        })
    }
}
