//! Users of a lane who want no more of it.

use super::{ClientPort, LaneNo};
use crate::client::UserNo;
use tgt_reactor::Cx;

impl ClientPort {
    /// Gives a permit back that [`super::ClientEvent::Room`] told of and that was not submitted with.
    /// Nothing if the lane is gone.
    pub fn forgo(&mut self, cx: &mut Cx, no: LaneNo, user: UserNo) {
        if !self.has_lane(no) {
            return;
        }
        self.with(cx, no, |lane, _, _| {
            let mut at = 0;
            while at < lane.handed.len() {
                if lane.handed[at].0 == user {
                    let (_, permit) = lane.handed.swap_remove(at);
                    lane.engine.give_back(permit, &mut lane.actions);
                } else {
                    at += 1;
                }
            }
        });
    }

    /// Takes a user away, with the permits it was handed; `false` if it still has requests under way. A request whose
    /// memory a stream still has is no longer under way for the engine: the caller counts its own.
    pub fn detach(&mut self, cx: &mut Cx, no: LaneNo, user: UserNo) -> bool {
        self.forgo(cx, no, user);
        // Users of a lane that is gone went with it; who was told so does not know it yet.
        !self.has_lane(no) || self.lane(no).detach(user)
    }
}
