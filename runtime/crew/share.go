package crew

import (
	"cmp"
	"maps"
	"slices"
)

// job is what is shared out: one connector. pipeline names what it is a part of.
type job struct {
	name, pipeline string
	bound          bool // to its host: every host that has workers runs its own part of it
}

// peer is a worker as it presents itself to the one that shares out.
type peer struct {
	id, host string
	// owned is what it was given last, in generation; releasing is what it has been told to end and has not ended yet.
	owned, releasing []string
	generation       int32
}

// share says what each peer is to run, by its id. Like KIP-415's incremental cooperative assignment, and as a pure function:
//
//   - a peer keeps what it owns unless balance takes it away: no other job stops;
//   - as few move as a balance needs, in which no two peers differ by more than one job (jobs that are bound to a host are
//     levelled there first, and may force more);
//   - what is taken away is given to nobody yet: its owner ends it, joins again, and the next call gives it on;
//   - of what must move and of what is free, each pipeline is spread as evenly as that allows.
//
// A job that two peers own belongs to the one of the later generation: the other was cut off, and was replaced.
func share(jobs []job, peers []peer) map[string][]string {
	peers = slices.SortedFunc(slices.Values(peers), func(a, b peer) int { return cmp.Compare(a.id, b.id) })
	out := map[string][]string{}
	hosts := map[string][]*peer{}
	var all []*peer
	for i := range peers {
		h := &peers[i]
		out[h.id] = nil
		all = append(all, h)
		hosts[h.host] = append(hosts[h.host], h)
	}
	bound, free := []job(nil), []job(nil)
	seen := map[string]bool{}
	for _, j := range jobs {
		switch {
		case seen[j.name]:
		case j.bound:
			bound = append(bound, j)
		default:
			free = append(free, j)
		}
		seen[j.name] = true
	}
	load := map[*peer]int{} // what each is to have in the end, of the jobs so far
	for _, host := range slices.Sorted(maps.Keys(hosts)) {
		spread(bound, hosts[host], load, out)
	}
	spread(free, all, load, out)
	for id := range out {
		slices.Sort(out[id])
	}
	return out
}

// spread adds to out one kind of job: jobs that each of peers may run.
func spread(jobs []job, peers []*peer, load map[*peer]int, out map[string][]string) {
	if len(peers) == 0 {
		return
	}
	pipeline := map[string]string{}
	for _, j := range jobs {
		pipeline[j.name] = j.pipeline
	}
	owner, held := map[string]*peer{}, map[string]bool{}
	for _, h := range peers {
		for _, name := range h.owned {
			if _, known := pipeline[name]; known && (owner[name] == nil || owner[name].generation < h.generation) {
				owner[name] = h
			}
		}
		for _, name := range h.releasing {
			held[name] = true
		}
	}
	has, parts := map[*peer][]string{}, map[*peer]map[string]int{}
	for _, h := range peers {
		parts[h] = map[string]int{}
	}
	give := func(h *peer, name string) {
		has[h] = append(has[h], name)
		parts[h][pipeline[name]]++
	}
	for _, name := range slices.Sorted(maps.Keys(owner)) {
		give(owner[name], name)
	}
	most := quotas(len(jobs), peers, has, load)
	for _, h := range peers {
		for len(has[h]) > most[h] {
			i := crowded(has[h], parts[h], pipeline)
			parts[h][pipeline[has[h][i]]]--
			has[h] = slices.Delete(has[h], i, i+1)
		}
	}
	for _, j := range slices.SortedFunc(slices.Values(jobs), func(a, b job) int {
		return cmp.Or(cmp.Compare(a.pipeline, b.pipeline), cmp.Compare(a.name, b.name))
	}) {
		if owner[j.name] != nil || held[j.name] {
			continue
		}
		var to *peer
		for _, h := range peers {
			if len(has[h]) < most[h] && (to == nil || cmp.Or(cmp.Compare(parts[h][j.pipeline], parts[to][j.pipeline]),
				cmp.Compare(most[to]-len(has[to]), most[h]-len(has[h]))) < 0) {
				to = h
			}
		}
		give(to, j.name) // the quotas add up to all jobs
	}
	for _, h := range peers {
		out[h.id] = append(out[h.id], has[h]...)
		load[h] += most[h]
	}
}

// quotas are how many of n jobs each peer is to have, on top of its load: level, and where a level
// leaves a choice, where they are now.
func quotas(n int, peers []*peer, has map[*peer][]string, load map[*peer]int) map[*peer]int {
	most := map[*peer]int{}
	for range n {
		var to *peer
		for _, h := range peers {
			if to == nil || cmp.Or(
				cmp.Compare(load[h]+most[h], load[to]+most[to]),
				cmp.Compare(more(has[to], most[to]), more(has[h], most[h])), // it has one more: that one stays
				cmp.Compare(len(has[h]), len(has[to])),                      // nobody has: then who comes back with nothing
			) < 0 {
				to = h
			}
		}
		most[to]++
	}
	return most
}

// more is 1 when somebody has more than n jobs, else 0.
func more(has []string, n int) int { return max(0, min(len(has)-n, 1)) }

// crowded is the index of a job of the pipeline that the peer has most of.
func crowded(has []string, parts map[string]int, pipeline map[string]string) int {
	best := 0
	for i, name := range has {
		if parts[pipeline[name]] >= parts[pipeline[has[best]]] {
			best = i
		}
	}
	return best
}
