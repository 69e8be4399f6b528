package txn

import (
	"context"
	"regexp"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/statelog"
	"github.com/forebayhub/forebay/core/wire"
	"github.com/forebayhub/forebay/internal/pattern"
)

// DescribeTransactions shows transactional ids.
func (c *Coordinator) DescribeTransactions(ctx context.Context, req *kmsg.DescribeTransactionsRequest) *kmsg.DescribeTransactionsResponse {
	resp := kmsg.NewPtrDescribeTransactionsResponse()
	resp.Version = req.Version
	seen := wire.Seen[string]{}
	for _, id := range req.TransactionalIDs {
		if !seen.First(id) {
			continue
		}
		rs := kmsg.NewDescribeTransactionsResponseTransactionState()
		rs.TransactionalID = id
		if id == "" {
			rs.ErrorCode = kerr.InvalidRequest.Code
		} else if s, code := c.lock(ctx, id); code != 0 {
			rs.ErrorCode = code
		} else {
			if t := s.txns[id]; t == nil || t.cur.epoch < 0 {
				rs.ErrorCode = kerr.TransactionalIDNotFound.Code
			} else {
				m := &t.cur
				rs.State, rs.TimeoutMillis, rs.StartTimestamp, rs.ProducerID, rs.ProducerEpoch = m.phase.String(), m.timeout, m.start, m.producer, m.epoch
				for _, tp := range m.sorted() {
					if n := len(rs.Topics); n == 0 || rs.Topics[n-1].Topic != tp.Topic {
						rt := kmsg.NewDescribeTransactionsResponseTransactionStateTopic()
						rt.Topic = tp.Topic
						rs.Topics = append(rs.Topics, rt)
					}
					rt := &rs.Topics[len(rs.Topics)-1]
					rt.Partitions = append(rt.Partitions, tp.Partition)
				}
			}
			s.unlock()
		}
		resp.TransactionStates = append(resp.TransactionStates, rs)
	}
	return resp
}

// ListTransactions lists the transactional ids that are coordinated here.
func (c *Coordinator) ListTransactions(req *kmsg.ListTransactionsRequest) *kmsg.ListTransactionsResponse {
	resp := kmsg.NewPtrListTransactionsResponse()
	resp.Version = req.Version
	var named *regexp.Regexp
	if req.TransactionalIDPattern != nil && *req.TransactionalIDPattern != "" {
		var err error
		if named, err = pattern.Compile(*req.TransactionalIDPattern); err != nil {
			resp.ErrorCode = kerr.InvalidRegularExpression.Code
			return resp
		}
	}
	states := map[string]bool{}
	for _, name := range phaseNames {
		states[name] = false
	}
	for _, name := range req.StateFilters {
		if _, ok := states[name]; !ok {
			resp.UnknownStateFilters = append(resp.UnknownStateFilters, name)
			continue
		}
		states[name] = true
	}
	producers := wire.Seen[int64]{}
	for _, id := range req.ProducerIDFilters {
		producers.First(id)
	}
	now := c.keeper.Now().UnixMilli()
	loading := c.keeper.Each(func(shard *statelog.Shard) {
		for id, t := range shard.State.(*state).txns {
			m := &t.cur
			_, filtered := producers[m.producer]
			switch {
			case m.epoch < 0,
				len(req.StateFilters) > 0 && !states[m.phase.String()],
				len(req.ProducerIDFilters) > 0 && !filtered,
				req.Version >= 1 && req.DurationFilterMillis >= 0 && (m.start < 0 || now-m.start <= req.DurationFilterMillis),
				named != nil && !named.MatchString(id):
				continue
			}
			rs := kmsg.NewListTransactionsResponseTransactionState()
			rs.TransactionalID, rs.ProducerID, rs.TransactionState = id, m.producer, m.phase.String()
			resp.TransactionStates = append(resp.TransactionStates, rs)
		}
	})
	if loading {
		resp.ErrorCode = kerr.CoordinatorLoadInProgress.Code
	}
	return resp
}
