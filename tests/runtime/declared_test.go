package runtime_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/forebayhub/forebay/connectors"
	"github.com/forebayhub/forebay/connectors/spec"
	"github.com/forebayhub/forebay/runtime/declared"
	"github.com/forebayhub/forebay/runtime/hublog"
	"github.com/forebayhub/forebay/runtime/worker"
)

func pipes() declared.Types {
	fields := spec.Spec{Fields: []spec.Field{{Name: "url", Type: spec.Secret, Doc: "."}, {Name: "paths", Type: spec.Strings, Doc: "."}}}
	return declared.Types{SourceCommon: worker.SourceFields, SinkCommon: worker.SinkFields, Registry: connectors.Registry{
		Sources: []connectors.SourceType{{Name: "pipe", Spec: fields, New: func(spec.Values, connectors.Env) (connectors.Source, error) { return nil, nil }}},
	}}
}

func openStore(t *testing.T, log hublog.Options, group string) *declared.Store {
	t.Helper()
	s, err := declared.Open(declared.Options{Log: log, Group: group, Host: "here", Types: pipes()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func pipe(name string, paths ...string) declared.Connector {
	return declared.Connector{Name: name, Kind: declared.Source, Type: "pipe", Fields: map[string]declared.Value{
		"url": {Text: "${NOWHERE_SET}"}, "paths": {List: append([]string{}, paths...)},
	}}
}

func TestDeclaredSets(t *testing.T) {
	log, ctx := openLog(t), t.Context()
	group := unique("g")
	s, other := openStore(t, log, group), openStore(t, log, unique("g"))
	if set, err := s.Load(ctx); err != nil || set.Version != 0 {
		t.Fatalf("before anything was declared: %+v %v", set, err)
	}
	plan, err := s.Apply(ctx, declared.Replace([]declared.Connector{pipe("a", "1"), pipe("b", "2")}), 0)
	if err != nil || plan.Version != 1 || len(plan.Changes) != 2 || plan.Changes[0].Action != declared.Create {
		t.Fatalf("%+v %v", plan, err)
	}
	if plan, err = s.Apply(ctx, declared.Replace([]declared.Connector{pipe("a", "1"), pipe("b", "2")}), 1); err != nil || !plan.Empty() || plan.Version != 1 {
		t.Fatalf("the same again: %+v %v", plan, err)
	}
	if plan, err = s.Apply(ctx, declared.Replace([]declared.Connector{pipe("b", "3"), pipe("c")}), declared.Any); err != nil {
		t.Fatal(err)
	}
	var actions []string
	for _, c := range plan.Changes {
		actions = append(actions, fmt.Sprintf("%s %s", c.Action, c.Name))
	}
	if got := strings.Join(actions, ", "); got != "change b, create c, remove a" {
		t.Error(got)
	}
	if f := plan.Changes[0].Fields; len(f) != 1 || f[0].Name != "paths" || *f[0].From != "[2]" || *f[0].To != "[3]" {
		t.Errorf("%+v", f)
	}
	if _, err := s.Apply(ctx, declared.Delete("a"), declared.Any); !errors.Is(err, declared.ErrUnknown) {
		t.Error("delete of what is not there:", err)
	}
	if _, err := s.Apply(ctx, declared.Put(pipe("d")), 1); !errors.Is(err, declared.ErrChanged) {
		t.Error("an old version:", err)
	}
	if _, err := s.Apply(ctx, declared.Put(declared.Connector{Name: "e", Kind: declared.Source, Type: "pump"}), declared.Any); !errors.Is(err, declared.ErrInvalid) {
		t.Error("an unknown type:", err)
	}
	set, err := s.Load(ctx)
	if err != nil || set.Version != 2 || len(set.Connectors) != 2 || set.Connectors[0].Fields["paths"].List[0] != "3" || set.Connectors[0].Fields["url"].Text != "${NOWHERE_SET}" {
		t.Errorf("%+v %v", set, err)
	}
	if set, err := other.Load(ctx); err != nil || set.Version != 0 {
		t.Errorf("another group: %+v %v", set, err)
	}
}

// Many edit at once, on several nodes: each edit is done exactly once or refused, and every follower ends at the same set.
func TestDeclaredConcurrently(t *testing.T) {
	log := openLog(t)
	group := unique("g")
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	last := map[int]declared.Set{}
	var following, editing sync.WaitGroup
	for i := range 2 {
		s := openStore(t, log, group)
		following.Go(func() {
			s.Watch(ctx, func(set declared.Set) {
				mu.Lock()
				defer mu.Unlock()
				if set.Version < last[i].Version {
					t.Errorf("follower %d went from version %d back to %d", i, last[i].Version, set.Version)
				}
				last[i] = set
			})
		})
	}
	const each = 4
	won := make([]int, 3)
	for i := range won {
		s := openStore(t, log, group)
		editing.Go(func() {
			for n := range each {
				for { // no expected version: an edit of one connector must never be lost to another's
					_, err := s.Apply(ctx, declared.Put(pipe(fmt.Sprintf("w%d-%d", i, n))), declared.Any)
					if err == nil {
						break
					}
					if !errors.Is(err, hublog.ErrFenced) {
						t.Errorf("editor %d: %v", i, err)
						return
					}
				}
			}
			// All three expect the same version: one gets it.
			switch _, err := s.Apply(ctx, declared.Put(pipe(fmt.Sprintf("x%d", i))), 3*each); {
			case err == nil:
				won[i]++
			case !errors.Is(err, declared.ErrChanged) && !errors.Is(err, hublog.ErrFenced):
				t.Errorf("editor %d: %v", i, err)
			}
		})
	}
	editing.Wait()
	set, err := openStore(t, log, group).Load(ctx)
	if err != nil {
		t.Fatal(err)
	}
	wins := won[0] + won[1] + won[2]
	if wins > 1 || len(set.Connectors) != 3*each+wins || set.Version != int64(3*each+wins) {
		t.Errorf("%d connectors at version %d, %d of the last edits won", len(set.Connectors), set.Version, wins)
	}
	eventually(t, 10*time.Second, "both followers are there", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return last[0].Version == set.Version && last[1].Version == set.Version
	})
	cancel()
	following.Wait()
}
