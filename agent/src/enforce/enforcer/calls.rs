//! The denied calls, found by name and by flow: a flow that ends asks for its own, and must not walk over
//! everybody's. Most flows that end have none.

use hashbrown::HashMap;

use super::Denied;
use crate::call::CallId;
use crate::capture::FlowId;

/// Denied calls whose outcome has not been handed out. Who bounds it is its owner.
#[derive(Default)]
pub struct Calls {
    by_id: HashMap<CallId, Denied>,
    /// Under the call's own flow, and, inside TLS, under its socket too. In the order of denial.
    by_flow: HashMap<FlowId, Vec<CallId>>,
}

impl Calls {
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn contains(&self, call: &CallId) -> bool {
        self.by_id.contains_key(call)
    }

    pub fn get(&self, call: &CallId) -> Option<&Denied> {
        self.by_id.get(call)
    }

    /// What a call is found by (its flow and cookie) must not be changed through this.
    pub fn get_mut(&mut self, call: &CallId) -> Option<&mut Denied> {
        self.by_id.get_mut(call)
    }

    pub fn insert(&mut self, call: CallId, denied: Denied) {
        for flow in flows(&denied) {
            self.by_flow.entry(flow).or_default().push(call);
        }
        self.by_id.insert(call, denied);
    }

    pub fn remove(&mut self, call: &CallId) -> Option<Denied> {
        let denied = self.by_id.remove(call)?;
        for flow in flows(&denied) {
            if let Some(calls) = self.by_flow.get_mut(&flow) {
                calls.retain(|other| other != call);
                if calls.is_empty() {
                    self.by_flow.remove(&flow);
                }
            }
        }
        Some(denied)
    }

    /// The calls of a flow, or of the TLS flows that a socket carries.
    pub fn of(&self, flow: &FlowId) -> &[CallId] {
        self.by_flow.get(flow).map_or(&[], Vec::as_slice)
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty() && self.by_flow.is_empty()
    }
}

/// Where a call is found. A cookie of 0 is no socket.
fn flows(denied: &Denied) -> impl Iterator<Item = FlowId> + use<> {
    let socket = FlowId::Socket(denied.cookie);
    let carrier = (denied.cookie != 0 && socket != denied.flow).then_some(socket);
    [Some(denied.flow), carrier].into_iter().flatten()
}
