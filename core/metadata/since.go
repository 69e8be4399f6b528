package metadata

// ApplyAt is Apply with the time of the raft log's entry, in milliseconds since 1970; 0: not known. The leader that appended the entry has set
// it and every node has the same in its log, so that images stay equal. Leaders' clocks differ: nothing is decided by it.
func ApplyAt(image *Image, index uint64, at int64, c Command) (*Image, Result) {
	next, r := Apply(image, index, c)
	switch c.(type) {
	case *RegisterNode, *FenceNode, *AlterConfigs: // what makes nodes other than they were
		next.stamp(image, at)
	}
	return next, r
}

// stamp gives the nodes of i, which nobody has seen yet, that differ from those of was the time of their change.
func (i *Image) stamp(was *Image, at int64) {
	for id, n := range i.Nodes {
		old := was.Nodes[id]
		if old == nil {
			old = &Node{}
		}
		q := *n
		if q.Since = old.Since; old.Epoch != n.Epoch || old.Fenced != n.Fenced {
			q.Since = at
		}
		switch {
		case !i.Draining(id):
			q.DrainingSince = 0
		case !was.Draining(id):
			q.DrainingSince = at
		default:
			q.DrainingSince = old.DrainingSince // a registration makes the node anew
		}
		if q.Since != n.Since || q.DrainingSince != n.DrainingSince {
			i.setNode(&q)
		}
	}
}
