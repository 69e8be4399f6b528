package crew

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// crewModel is workers as the group sees them: whom share tells what, who ends what.
type crewModel struct {
	t          *testing.T
	r          *rand.Rand
	jobs       []job
	peers      map[string]*peer
	generation int32
	next       int
}

func (m *crewModel) present() (out []peer) {
	for _, p := range m.peers {
		out = append(out, peer{p.id, p.host, slices.Clone(p.owned), slices.Clone(p.releasing), p.generation})
	}
	m.r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// rebalance is one generation of the group. It checks what share promises of every one, and says whether anything was released.
func (m *crewModel) rebalance() (released int) {
	before := m.present()
	said := share(m.jobs, before)
	m.r.Shuffle(len(m.jobs), func(i, j int) { m.jobs[i], m.jobs[j] = m.jobs[j], m.jobs[i] })
	if again := share(m.jobs, m.present()); !maps.EqualFunc(said, again, slices.Equal) {
		m.t.Fatalf("the order of what is given makes a difference: %v, %v", said, again)
	}
	known := map[string]job{}
	for _, j := range m.jobs {
		known[j.name] = j
	}
	for _, p := range before {
		for _, name := range p.owned {
			if _, ok := known[name]; ok && !slices.Contains(said[p.id], name) {
				released++
			}
		}
	}
	if want := leastMoves(m.jobs, before); want >= 0 && released != want {
		m.t.Fatalf("%d jobs are moved, %d need to: %v: %v", released, want, before, said)
	}
	m.generation++
	for id, p := range m.peers {
		for _, name := range p.owned {
			if !slices.Contains(said[id], name) {
				p.releasing = append(p.releasing, name)
			}
		}
		p.owned, p.generation = said[id], m.generation
	}
	m.exclusive(known)
	return released
}

// exclusive: a job runs once, one that is bound to its host once for each host.
func (m *crewModel) exclusive(known map[string]job) {
	runs := map[string]string{}
	for id, p := range m.peers {
		for _, name := range slices.Concat(p.owned, p.releasing) {
			j, declared := known[name]
			if !declared {
				continue
			}
			key := name
			if j.bound {
				key += "@" + p.host
			}
			if other, ok := runs[key]; ok {
				m.t.Fatalf("%s runs on %s and on %s", name, other, id)
			}
			runs[key] = id
		}
	}
}

// settle goes on until nobody has anything to end, and checks the balance.
func (m *crewModel) settle() {
	for round := range 4 {
		for _, p := range m.peers {
			p.releasing = nil
		}
		if released := m.rebalance(); released > 0 && round > 0 {
			m.t.Fatalf("nothing has happened since round %d, and %d jobs are moved", round, released)
		}
	}
	if len(m.peers) == 0 {
		return
	}
	var loads []int
	bound := false
	got := map[string]int{}
	hosts := map[string]bool{}
	for _, p := range m.peers {
		if len(p.releasing) > 0 {
			m.t.Fatalf("%s still has to end %v", p.id, p.releasing)
		}
		loads = append(loads, len(p.owned))
		hosts[p.host] = true
		for _, name := range p.owned {
			got[name]++
		}
	}
	for _, j := range m.jobs {
		want := 1
		if j.bound {
			want, bound = len(hosts), true
		}
		if got[j.name] != want {
			m.t.Fatalf("%s runs %d times, and is to run %d times", j.name, got[j.name], want)
		}
	}
	if !bound && slices.Max(loads)-slices.Min(loads) > 1 {
		m.t.Fatalf("loads %v", loads)
	}
}

// leastMoves is how many jobs must leave their owners for the best balance there is, by trying every one; -1: too many to try.
// Only for jobs of one kind, each with one owner.
func leastMoves(jobs []job, peers []peer) int {
	if len(peers) == 0 || len(peers) > 4 || len(jobs) > 9 {
		return -1
	}
	known := map[string]bool{}
	for _, j := range jobs {
		if j.bound {
			return -1
		}
		known[j.name] = true
	}
	owned := make([]int, len(peers))
	for i, p := range peers {
		for _, name := range p.owned {
			if known[name] {
				owned[i]++
			}
		}
	}
	best, least := 1<<30, -1
	var try func(i, left, moves int, loads []int)
	try = func(i, left, moves int, loads []int) {
		if i == len(peers)-1 {
			loads = append(loads, left)
			moves += max(0, owned[i]-left)
			if apart := slices.Max(loads) - slices.Min(loads); apart < best || apart == best && moves < least {
				best, least = apart, moves
			}
			return
		}
		for n := 0; n <= left; n++ {
			try(i+1, left-n, moves+max(0, owned[i]-n), append(slices.Clone(loads), n))
		}
	}
	try(0, len(jobs), 0, nil)
	return least
}

// KIP-415: whatever comes, goes and returns, jobs run once, as few move as balance needs, and in the end all run.
func TestShareMovesNoMoreThanItMust(t *testing.T) {
	seeds := 400
	if testing.Short() {
		seeds = 50
	}
	for seed := range seeds {
		r := rand.New(rand.NewPCG(uint64(seed), 1))
		m := &crewModel{t: t, r: r, peers: map[string]*peer{}}
		bound := seed%3 == 0
		for range 60 {
			switch k := r.IntN(10); {
			case k < 2:
				if len(m.peers) < 4 {
					m.next++
					id := fmt.Sprintf("w%d", m.next)
					m.peers[id] = &peer{id: id, host: fmt.Sprintf("h%d", r.IntN(2))}
				}
			case k < 3: // gone for good
				for id := range m.peers {
					delete(m.peers, id)
					break
				}
			case k < 4: // back with nothing
				for _, p := range m.peers {
					p.owned, p.releasing, p.generation = nil, nil, -1
					break
				}
			case k < 6:
				m.next++
				m.jobs = append(m.jobs, job{name: fmt.Sprintf("j%d", m.next), pipeline: fmt.Sprintf("p%d", r.IntN(3)), bound: bound && r.IntN(4) == 0})
			case k < 7:
				if len(m.jobs) > 0 {
					m.jobs = slices.Delete(m.jobs, 0, 1)
				}
			case k < 8: // somebody has ended what it had to
				for _, p := range m.peers {
					p.releasing = nil
					break
				}
			case k < 9:
				m.rebalance()
			default:
				m.settle()
			}
		}
		m.settle()
	}
}

func TestShareOfSixty(t *testing.T) {
	m := &crewModel{t: t, r: rand.New(rand.NewPCG(1, 1)), peers: map[string]*peer{}}
	for i := range 60 {
		m.jobs = append(m.jobs, job{name: fmt.Sprintf("j%02d", i), pipeline: fmt.Sprintf("p%d", i/10)})
	}
	for i := range 3 {
		id := fmt.Sprintf("w%d", i)
		m.peers[id] = &peer{id: id}
	}
	m.settle()
	for id, p := range m.peers {
		parts := map[string]int{}
		for _, name := range p.owned {
			parts[fmt.Sprintf("p%d", (int(name[1]-'0')*10+int(name[2]-'0'))/10)]++
		}
		for pl, n := range parts {
			if n < 3 || n > 4 {
				t.Errorf("%s has %d jobs of %s, which has ten", id, n, pl)
			}
		}
	}
	// Away and back in a moment: it has what it had, whoever shares out.
	had := slices.Clone(m.peers["w1"].owned)
	m.peers["w1"].owned, m.peers["w1"].generation = nil, -1
	if m.settle(); !slices.Equal(had, m.peers["w1"].owned) {
		t.Errorf("w1 had %v, and now has %v", had, m.peers["w1"].owned)
	}
	// One dies: its jobs move, no others.
	kept := map[string][]string{"w0": slices.Clone(m.peers["w0"].owned), "w2": slices.Clone(m.peers["w2"].owned)}
	delete(m.peers, "w1")
	m.settle()
	for id, names := range kept {
		for _, name := range names {
			if !slices.Contains(m.peers[id].owned, name) {
				t.Errorf("%s has moved away from %s", name, id)
			}
		}
	}
}

// Thirty that are bound to the host and thirty that are not, and a fourth worker comes to three.
func TestShareOfBoundAndFree(t *testing.T) {
	m := &crewModel{t: t, r: rand.New(rand.NewPCG(1, 1)), peers: map[string]*peer{}}
	for i := range 60 {
		m.jobs = append(m.jobs, job{name: fmt.Sprintf("j%02d", i), pipeline: fmt.Sprintf("p%d", i%30), bound: i < 30})
	}
	for i := range 3 {
		id := fmt.Sprintf("w%d", i)
		m.peers[id] = &peer{id: id}
	}
	m.settle()
	m.peers["w3"] = &peer{id: "w3"}
	if moved := m.rebalance(); moved != 15 {
		t.Errorf("%d are moved, 15 need to", moved)
	}
	m.settle()
	for id, p := range m.peers {
		if len(p.owned) != 15 {
			t.Errorf("%s has %d", id, len(p.owned))
		}
	}
}

// A worker that was cut off, was replaced and still believes itself to own things has them no more.
func TestShareBelievesTheLaterGeneration(t *testing.T) {
	jobs := []job{{name: "a"}, {name: "b"}}
	said := share(jobs, []peer{
		{id: "cut off", owned: []string{"a", "b"}, generation: 4},
		{id: "heir", owned: []string{"a", "b"}, generation: 5},
	})
	if len(said["cut off"]) != 0 || len(said["heir"]) != 1 {
		t.Fatalf("%v: b is given on when its owner has ended it, and that is the heir", said)
	}
}
