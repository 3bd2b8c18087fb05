//! Sessions that leave for another core and that come from one, with their sockets. Which and when is decided
//! by the broker's cores (`session::moving`).

use super::Turn;
use crate::runtime::mesh::Passage;

impl Turn {
    /// Sends sessions off that have told every core that they move.
    pub(super) fn see_off(&mut self) -> bool {
        while let Some((session, traveller)) = self.core.next_traveller() {
            let socket = self.sockets.take(session);
            self.links.depart(Passage { traveller, socket });
        }
        self.links.send_travellers()
    }

    /// Takes sessions in.
    pub(super) fn take_in(&mut self) -> bool {
        let mut worked = false;
        for position in 0..self.links.peers().len() {
            while let Some(passage) = self.links.peers()[position].next_arrival() {
                let Passage { traveller, socket } = passage;
                let session = self.core.arrive(self.now, traveller);
                match socket {
                    Some(socket) => {
                        let token = self.sockets.adopt(self.now, session, socket);
                        self.polled.push_back(token);
                    }
                    None => self.core.disconnected(self.now, session),
                }
                worked = true;
            }
        }
        worked
    }
}
