package position

import (
	"context"
	"encoding/json"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/runtime/hublog"
)

// ReadAll reads the committed positions of every split of a source, without
// fencing anybody: what people and the audit look at. A task resumes from Load only.
func ReadAll(ctx context.Context, l *hublog.Log, group, source string) (map[Scope]map[connectors.PositionKey]connectors.Position, error) {
	tp := connectors.TopicPartition{Topic: Topic}
	ends, err := l.Offsets(ctx, tp)
	if err != nil {
		return nil, err
	}
	at, ok := ends[tp]
	out := map[Scope]map[connectors.PositionKey]connectors.Position{}
	if !ok {
		return out, nil
	}
	r := reader{group: group, source: source, out: out}
	r.txns = hublog.NewTransactions(r.apply)
	if _, err = l.Scan(ctx, Topic, 0, at.Start, at.End, r.entry); err != nil {
		return nil, err
	}
	return out, r.txns.Finish(at.LSO, nil)
}

type owned struct {
	scope Scope
	pending
}

type reader struct {
	group, source string
	out           map[Scope]map[connectors.PositionKey]connectors.Position
	txns          *hublog.Transactions[owned]
}

func (r *reader) apply(o owned) {
	m := r.out[o.scope]
	if m == nil {
		m = map[connectors.PositionKey]connectors.Position{}
		r.out[o.scope] = m
	}
	if o.value == nil {
		delete(m, o.key)
	} else {
		m[o.key] = o.value
	}
}

func (r *reader) entry(e hublog.Entry) error {
	if r.txns.Marker(e) {
		return nil
	}
	k, ok := parseKey(e.Key)
	if !ok || k.Open || k.Group != r.group || k.Source != r.source {
		return nil
	}
	r.txns.Add(e, owned{Scope{k.Group, k.Source, k.Split}, pending{connectors.PositionKey(k.Key), e.Value}})
	return nil
}

func parseKey(b []byte) (k recordKey, ok bool) {
	ok = json.Unmarshal(b, &k) == nil && k.V == 1
	return k, ok
}
