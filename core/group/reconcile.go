package group

import "github.com/forebayhub/forebay/core/metadata"

// The states of a member, by the numbers that they have in the log.
const (
	memberStable     = 1
	memberUnrevoked  = 2 // it must give up partitions before it goes on
	memberUnreleased = 3 // it waits for partitions that others still hold
)

// reconcile brings a member one step nearer to its target (KIP-848, "Reconciliation"). A partition is given to a member
// only when nobody holds it: held says whether somebody does. owned are the partitions that the member says it has;
// nil: it did not say.
func reconcile(m currentValue, epoch int32, target parts, owned parts, held func(metadata.TopicID, int32) bool) currentValue {
	switch m.state {
	case memberUnrevoked:
		if owned == nil || owned.meets(m.revoking) {
			return m
		}
		return nextAssignment(m, m.epoch+1, epoch, target, owned, held)
	case memberUnreleased:
		return nextAssignment(m, m.epoch, epoch, target, owned, held)
	}
	if m.epoch == epoch {
		return m
	}
	return nextAssignment(m, m.epoch, epoch, target, owned, held)
}

func nextAssignment(m currentValue, memberEpoch, epoch int32, target, owned parts, held func(metadata.TopicID, int32) bool) currentValue {
	next := currentValue{epoch: m.epoch, previous: m.previous, assigned: parts{}, revoking: parts{}}
	to := func(e int32) {
		if e != next.epoch {
			next.previous, next.epoch = next.epoch, e
		}
	}
	for t, numbers := range m.assigned {
		for n, since := range numbers {
			if target.has(t, n) {
				next.assigned.add(t, n, since)
			} else {
				next.revoking.add(t, n, since)
			}
		}
	}
	if len(next.revoking) > 0 && (owned == nil || owned.meets(next.revoking)) {
		to(memberEpoch)
		next.state = memberUnrevoked
		return next
	}
	next.revoking = parts{}
	next.state = memberStable
	to(epoch)
	for t, numbers := range target {
		for n := range numbers {
			switch {
			case next.assigned.has(t, n):
			case held(t, n):
				next.state = memberUnreleased
			default:
				next.assigned.add(t, n, epoch)
			}
		}
	}
	return next
}
