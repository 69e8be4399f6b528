package runtime_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/runtime/worker"
)

// lameRegistry answers some requests with 503, hangs up on others, and takes the others.
type lameRegistry struct {
	mu    sync.Mutex
	texts []string
	asked int
	bad   int // requests that fail, one kind after the other
}

func (l *lameRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked++
	if l.bad > 0 {
		if l.bad--; l.bad%2 == 0 {
			panic(http.ErrAbortHandler)
		}
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	if r.Method == http.MethodPost {
		text, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		l.texts = append(l.texts, strings.TrimSuffix(strings.TrimPrefix(string(text), `{"schema":`), "}"))
		fmt.Fprintf(w, `{"id":%d}`, len(l.texts))
		return
	}
	var id int
	if _, err := fmt.Sscanf(r.URL.Path, "/schemas/ids/%d", &id); err != nil || id < 1 || id > len(l.texts) {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	fmt.Fprintf(w, `{"schema":%s}`, l.texts[id-1])
}

// A registry that is away is asked again, by the source and by the sink, and no record is lost or doubled; there is no request for each record.
func TestRegistryIsAway(t *testing.T) {
	l := &lameRegistry{bad: 2}
	at := httptest.NewServer(l)
	defer at.Close()
	src := &numbers{topic: unique("n"), n: 5_000, typed: true}
	dst := newMemory(src.topic)
	o := options(openLog(t), src, dst)
	fields := map[string]string{"key.converter": "avro", "value.converter": "avro", "registry.url": at.URL}
	o.Connectors[0].Values, o.Connectors[1].Values = parsed(t, worker.SourceFields, fields), parsed(t, worker.SinkFields, fields)
	w, halt := start(t, o)
	eventually(t, time.Minute, "everything is with the sink", func() bool {
		return src.acknowledged() == 5_000 && (dst.given(4_999) || dst.count() == 5_000) && state(w, 1) == worker.Running
	})
	halt()
	exactly(t, dst.all(), 5_000)
	if dst.decoded == 0 {
		t.Error("no record came with its types")
	}
	if l.asked > 30 {
		t.Errorf("the registry was asked %d times", l.asked)
	}
}

// Without a registry a converter that needs one is refused before anything runs.
func TestNoRegistry(t *testing.T) {
	o := options(openLog(t), &numbers{topic: unique("n")}, nil)
	o.Connectors[0].Values = parsed(t, worker.SourceFields, map[string]string{"value.converter": "avro"})
	if _, err := worker.New(o); err == nil || !strings.Contains(err.Error(), "need a schema registry") {
		t.Error(err)
	}
	_, found := worker.SourceFields.Parse(spec.FlatNode(map[string]string{"registry.url": "http://u:p@registry"}))
	if len(found) != 1 || !strings.Contains(found[0].Message, "registry.username") {
		t.Errorf("%+v", found)
	}
}
