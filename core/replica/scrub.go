package replica

import (
	"context"
	"math/rand/v2"
	"sync/atomic"

	"github.com/forebayhub/forebay/core/commitlog"
)

// scrubs is what the scrub of this node has done since the start.
type scrubs struct {
	bytes, damaged, failed atomic.Int64
	ended                  atomic.Int64 // Unix time of the end of the last pass, in seconds
}

// Scrub makes one pass over the logs, one after the other; each begins at another one by chance, so that all have their turn on a node that is restarted before a pass
// ends. What was not used since the start is left to Maintain to open. Damage goes the way of all damage: see repair.go.
func (s *Set) Scrub(ctx context.Context, pace commitlog.Pace) {
	list := s.slots()
	if len(list) == 0 {
		return
	}
	at := rand.IntN(len(list))
	for _, sl := range append(list[at:], list[:at]...) {
		p := sl.p.Load()
		if p == nil {
			continue
		}
		sum, err := p.Log().Scrub(pace)
		s.scrubs.bytes.Add(sum.Bytes)
		s.scrubs.damaged.Add(int64(sum.Damaged))
		s.scrubs.failed.Add(int64(sum.Failed))
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			s.o.Logger.Info("the scrub has stopped in the middle of a pass", "err", err)
			return
		}
	}
	s.scrubs.ended.Store(s.o.Now().Unix())
}
