package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"unicode/utf8"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/runtime/worker"
)

// topics are KIP-558's active topics: those with records since the task started or the reset, whichever was later.
func (h *handler) topics(w http.ResponseWriter, _ *http.Request, s worker.Status) {
	topics, err := h.o.Worker.Topics(s.Name)
	if err != nil {
		fail(w, err)
		return
	}
	reply(w, http.StatusOK, map[string]any{s.Name: map[string]any{"topics": topics}})
}

func (h *handler) topicsReset(w http.ResponseWriter, _ *http.Request, s worker.Status) {
	answer(w, http.StatusAccepted, h.o.Worker.ForgetTopics(s.Name))
}

// offsets answers as KIP-875 says.
func (h *handler) offsets(w http.ResponseWriter, r *http.Request, s worker.Status) {
	if s.Sink {
		offsets, err := h.o.Worker.Offsets(r.Context(), s.Name)
		if err != nil {
			fail(w, err)
			return
		}
		held := map[connectors.TopicPartition]int64{}
		for _, o := range offsets {
			held[o.TopicPartition] = o.Offset
		}
		sinkOffsets(w, held)
		return
	}
	positions, err := h.o.Worker.Positions(r.Context(), s.Name)
	if err != nil {
		fail(w, err)
		return
	}
	out := []map[string]any{}
	for _, p := range positions {
		out = append(out, map[string]any{"partition": map[string]any{"split": p.Split, "key": p.Key}, "offset": showPosition(p.Position)})
	}
	reply(w, http.StatusOK, map[string]any{"offsets": out})
}

func sinkOffsets(w http.ResponseWriter, held map[connectors.TopicPartition]int64) {
	out := []map[string]any{}
	for tp, at := range held {
		out = append(out, map[string]any{"partition": map[string]any{"kafka_topic": tp.Topic, "kafka_partition": tp.Partition},
			"offset": map[string]any{"kafka_offset": at}})
	}
	reply(w, http.StatusOK, map[string]any{"offsets": out})
}

// flush commits what a sink holds; the answer has the shape of offsets.
func (h *handler) flush(w http.ResponseWriter, r *http.Request, s worker.Status) {
	if !s.Sink {
		fail(w, errSource)
		return
	}
	committed, err := h.o.Worker.Flush(r.Context(), s.Name)
	if err != nil {
		fail(w, err)
		return
	}
	sinkOffsets(w, committed)
}

// said is KIP-875's message after a change.
func said(w http.ResponseWriter, what string, err error) {
	if err != nil {
		fail(w, err)
		return
	}
	reply(w, http.StatusOK, map[string]string{"message": "The offsets for this connector have been " + what + " successfully"})
}

// alterOffsets puts positions of a stopped source, as offsets has shown them. An offset that is null is forgotten; what is not named stays.
func (h *handler) alterOffsets(w http.ResponseWriter, r *http.Request, s worker.Status) {
	if err := h.o.Worker.SetPositions(r.Context(), s.Name, nil); err != nil { // it may not be done at all
		fail(w, err)
		return
	}
	positions, err := readPositions(w, r)
	if err == nil {
		err = h.o.Worker.SetPositions(r.Context(), s.Name, positions)
	}
	said(w, "altered", err)
}

// resetOffsets forgets all positions of a stopped source: it begins as on its first day.
func (h *handler) resetOffsets(w http.ResponseWriter, r *http.Request, s worker.Status) {
	err := h.o.Worker.SetPositions(r.Context(), s.Name, nil)
	if err == nil {
		var all []worker.PositionOf
		if all, err = h.o.Worker.Positions(r.Context(), s.Name); err == nil {
			for i := range all {
				all[i].Position = nil
			}
			err = h.o.Worker.SetPositions(r.Context(), s.Name, all)
		}
	}
	said(w, "reset", err)
}

func readPositions(w http.ResponseWriter, r *http.Request) (out []worker.PositionOf, err error) {
	var b struct {
		Offsets []struct {
			Partition *struct {
				Split *string                 `json:"split"`
				Key   *connectors.PositionKey `json:"key"`
			} `json:"partition"`
			Offset json.RawMessage `json:"offset"`
		} `json:"offsets"`
	}
	if err := body(w, r, &b); err != nil {
		return nil, err
	}
	if len(b.Offsets) == 0 {
		return nil, fmt.Errorf("%w: offsets is empty: give those that shall change, each with its partition, as a GET shows them", errBody)
	}
	seen := map[[2]string]bool{}
	for i, o := range b.Offsets {
		if o.Partition == nil || o.Partition.Split == nil || o.Partition.Key == nil {
			return nil, fmt.Errorf("%w: offsets[%d].partition has to name a split and a key, as a GET shows them", errBody, i)
		}
		p := worker.PositionOf{Split: *o.Partition.Split, Key: *o.Partition.Key}
		if p.Position, err = readPosition(o.Offset); err != nil {
			return nil, fmt.Errorf("%w: offsets[%d].offset: %w", errBody, i, err)
		}
		place := [2]string{p.Split, string(p.Key)}
		if seen[place] {
			return nil, fmt.Errorf("%w: offsets[%d] names the partition of an earlier one", errBody, i)
		}
		seen[place] = true
		out = append(out, p)
	}
	return out, nil
}

// plain is how a position reads that is no JSON object of its own: Connect's offsets are objects.
type plain struct {
	Text   *string `json:"text,omitempty"`
	Base64 []byte  `json:"base64,omitempty"`
}

// isPlain says whether text is a plain.
func isPlain(text []byte) (p plain, ok bool) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	ok = d.Decode(&p) == nil && (p.Text != nil) != (p.Base64 != nil)
	return p, ok
}

func isObject(text []byte) bool {
	return bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) && json.Valid(text)
}

// showPosition is a position as a JSON object, of which readPosition makes the same position.
func showPosition(p connectors.Position) any {
	_, taken := isPlain(p)
	switch {
	case !utf8.Valid(p):
		return plain{Base64: p}
	case isObject(p) && !taken:
		return json.RawMessage(p)
	}
	text := string(p)
	return plain{Text: &text}
}

// readPosition is nil for null.
func readPosition(text []byte) (connectors.Position, error) {
	if bytes.Equal(bytes.TrimSpace(text), []byte("null")) {
		return nil, nil
	}
	if !isObject(text) {
		return nil, fmt.Errorf("an object, as a GET shows it, or null, which forgets it")
	}
	if p, ok := isPlain(text); ok {
		if p.Text != nil {
			return connectors.Position(*p.Text), nil
		}
		return p.Base64, nil
	}
	var out bytes.Buffer
	err := json.Compact(&out, text)
	return out.Bytes(), err
}
