package dlq

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/forebayhub/forebay/runtime/hublog"
)

// LoadSource is Load for the task of one split of a source, which has the letters of that split only. next is a number that
// none of its letters had before.
func LoadSource(ctx context.Context, l *hublog.Log, a *hublog.Appender, group, source, split string) (d *Letters, next int64, err error) {
	d = newLetters(l, group, source)
	d.split = &split
	if err := d.load(ctx, a, TopicSpec(group, source)); err != nil {
		return nil, 0, err
	}
	// Behind the barrier. Each letter takes at least one offset of the topic, so a later task's barrier is behind all numbers of this one.
	return d, d.next, nil
}

// Bury adds a source's letter and what it keeps to a's open transaction. Like Amend and Settle it is for the owner, who
// ends with an error when the transaction does.
func (d *Letters) Bury(a *hublog.Appender, e Entry, payload []byte) {
	e.Bytes = int64(len(payload))
	for e.Pieces = 0; len(payload) > 0; {
		n := min(len(payload), d.piece())
		e.Pieces++
		a.Append(d.topic, 0, pieceKey(e.Place, e.Pieces), payload[:n], nil, time.Time{})
		payload = payload[n:]
	}
	d.put(a, change{place: e.Place, entry: &e})
}

func (d *Letters) piece() int {
	if d.most > 0 {
		return min(pieceBytes, d.most)
	}
	return pieceBytes
}

// Bound makes pieces no larger than most bytes, as an appender must whose topics take no larger records.
func (d *Letters) Bound(most int) { d.most = max(most, leastPiece) }

// Amend changes a letter's entry, and ends what was asked for it. What it keeps stays as it is.
func (d *Letters) Amend(a *hublog.Appender, e Entry) {
	d.put(a, change{place: e.Place, entry: &e})
	d.answer(a, e.Place)
}

// Settle forgets a letter, what it keeps and what was asked for it: its record is in the transaction, or nobody wants it.
func (d *Letters) Settle(a *hublog.Appender, p Place) {
	for i := range d.all[p].Pieces {
		a.Append(d.topic, 0, pieceKey(p, i+1), nil, nil, time.Time{})
	}
	d.put(a, change{place: p})
	d.answer(a, p)
}

func (d *Letters) answer(a *hublog.Appender, p Place) {
	if d.asks[p] != "" {
		d.put(a, change{place: p, ask: true})
	}
}

func (d *Letters) put(a *hublog.Appender, c change) {
	key, value := c.record()
	a.Append(d.topic, 0, key, value, nil, time.Time{})
	d.apply(c)
}

func pieceKey(p Place, i int) []byte { return recordKey{Place: p, Piece: i}.bytes() }

// ErrNoPayload says that Payloads gave nothing for a letter that keeps something.
var ErrNoPayload = errors.New("the log does not have the kept record")

var errAllThere = errors.New("all pieces are there")

// Payloads reads what letters keep, of all that the log has whole. Numbers are never given twice, so pieces need no look at their transactions; and as
// each letter takes an offset at least, its pieces lie at its number or behind that.
func (d *Letters) Payloads(ctx context.Context, entries []Entry) (map[Place][]byte, error) {
	pieces, missing, from := map[Place][][]byte{}, 0, int64(math.MaxInt64)
	for _, e := range entries {
		pieces[e.Place] = make([][]byte, e.Pieces)
		missing, from = missing+e.Pieces, min(from, e.Offset)
	}
	at, there, err := d.ends(ctx)
	if err != nil {
		return nil, err
	}
	if there && missing > 0 {
		_, err = d.log.Scan(ctx, d.topic, 0, max(at.Start, from), at.End, func(e hublog.Entry) error {
			var k recordKey
			if !e.Control && e.Value != nil && json.Unmarshal(e.Key, &k) == nil && k.V == 1 && k.Piece > 0 {
				if of := pieces[k.Place]; k.Piece <= len(of) && of[k.Piece-1] == nil {
					of[k.Piece-1] = e.Value
					if missing--; missing == 0 {
						return errAllThere
					}
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, errAllThere) {
			return nil, fmt.Errorf("read dead letters: %w", err)
		}
	}
	out := map[Place][]byte{}
	for p, of := range pieces {
		if !slices.ContainsFunc(of, func(b []byte) bool { return b == nil }) {
			out[p] = bytes.Join(of, nil)
		}
	}
	return out, nil
}
