package consensus

import "github.com/forebayhub/forebay/internal/metrics"

var (
	raftLeader   = metrics.Gauge("forebay_raft_leader", "Id of the node that leads the metadata quorum, the active controller; -1: none is known.")
	raftLeads    = metrics.Gauge("forebay_raft_leads", "1 on the active controller, else 0. The sum over the cluster is 1.")
	raftTerm     = metrics.Gauge("forebay_raft_term", "Raft's term. It rises with each election.")
	raftLast     = metrics.Gauge("forebay_raft_last_index", "The last entry of this node's raft log.")
	raftCommit   = metrics.Gauge("forebay_raft_commit_index", "The last entry that this node knows to be agreed on.")
	raftApplied  = metrics.Gauge("forebay_raft_applied_index", "The last entry that this node's metadata has. The leader's forebay_raft_commit_index less this is its lag.")
	raftVoters   = metrics.Gauge("forebay_raft_voters", "Members of the quorum with a vote.")
	raftSync     = metrics.Histogram("forebay_raft_fsync_seconds", "Syncs of the raft log to disk.")
	raftDiskFree = metrics.Gauge("forebay_raft_disk_free_bytes", "Free bytes where the raft log lies. Metadata changes are refused below 4 MiB.")
)

// Families are the metrics of a Quorum.
var Families = []*metrics.Family{raftLeader, raftLeads, raftTerm, raftLast, raftCommit, raftApplied, raftVoters, raftSync, raftDiskFree}

// Metrics writes how the metadata quorum does, as this node knows it.
func (q *Quorum) Metrics(w *metrics.Writer) {
	leader := int64(-1)
	if id, ok := q.Leader(); ok {
		leader = int64(id)
	}
	w.Count(raftLeader, leader)
	leads := int64(0)
	if q.Leads() {
		leads = 1
	}
	w.Count(raftLeads, leads)
	w.Count(raftTerm, int64(q.raft.CurrentTerm()))
	w.Count(raftLast, int64(q.raft.LastIndex()))
	w.Count(raftCommit, int64(q.raft.CommitIndex()))
	w.Count(raftApplied, int64(q.raft.AppliedIndex()))
	if voters, _, err := q.Members(); err == nil {
		w.Count(raftVoters, int64(len(voters)))
	}
	w.Latency(raftSync, q.store.syncs)
	if free, err := q.free(); err == nil {
		w.Count(raftDiskFree, int64(free))
	}
}
