package txn

import (
	"time"

	"github.com/forebayhub/forebay/core/statelog"
	"github.com/forebayhub/forebay/internal/metrics"
)

var (
	idsN      = metrics.Gauge("forebay_transactional_ids", "Transactional ids that this node coordinates.")
	openN     = metrics.Gauge("forebay_transactions_open", "Transactions under way that this node coordinates, those whose markers are being written among them.")
	oldestAge = metrics.Gauge("forebay_transaction_oldest_seconds", "Age of the oldest transaction under way: it holds up who reads committed. 0: there is none. `kafka-transactions.sh list --duration-filter MS` says whose it is.")
)

// Families are the metrics of a Coordinator.
var Families = []*metrics.Family{idsN, openN, oldestAge}

// Metrics writes what is coordinated here.
func (c *Coordinator) Metrics(w *metrics.Writer) {
	var ids, open int64
	oldest := int64(-1)
	c.keeper.Each(func(shard *statelog.Shard) {
		for _, t := range shard.State.(*state).txns {
			if t.cur.epoch < 0 {
				continue
			}
			ids++
			if t.cur.phase != ongoing && !t.cur.phase.preparing() {
				continue
			}
			open++
			if t.cur.start >= 0 && (oldest < 0 || t.cur.start < oldest) {
				oldest = t.cur.start
			}
		}
	})
	w.Count(idsN, ids)
	w.Count(openN, open)
	age := 0.0
	if oldest >= 0 {
		age = max(0, (time.Duration(c.keeper.Now().UnixMilli()-oldest) * time.Millisecond).Seconds())
	}
	w.Value(oldestAge, age)
}
