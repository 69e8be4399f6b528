package server

import (
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/metadata"
)

// DescribeLogDirs (key 35), versions 1–5. There is one log directory. v4 sizes of the disk (KIP-827).

func (s *Server) describeLogDirs(r *request) kmsg.Response {
	req := r.body.(*kmsg.DescribeLogDirsRequest)
	resp := kmsg.NewPtrDescribeLogDirsResponse()
	img := s.d.Controller.Image()
	dir := kmsg.NewDescribeLogDirsResponseDir()
	dir.Dir = s.d.DataDir
	dir.TotalBytes, dir.UsableBytes = -1, -1
	if free, total, err := s.d.FS.Usage(s.d.DataDir); err == nil {
		dir.TotalBytes, dir.UsableBytes = int64(total), int64(free)
	}
	if req.Topics == nil {
		for _, name := range slices.Sorted(maps.Keys(img.Topics)) {
			s.describeTopicDir(&dir, img.Topics[name], nil)
		}
	}
	for _, t := range req.Topics {
		if known := img.Topics[t.Topic]; known != nil {
			s.describeTopicDir(&dir, known, t.Partitions)
		}
	}
	resp.Dirs = append(resp.Dirs, dir)
	return resp
}

// describeTopicDir adds the partitions of t that this node hosts; nil numbers are all.
func (s *Server) describeTopicDir(dir *kmsg.DescribeLogDirsResponseDir, t *metadata.Topic, numbers []int32) {
	out := kmsg.NewDescribeLogDirsResponseDirTopic()
	out.Topic = t.Name
	for _, p := range t.Partitions {
		if numbers != nil && !slices.Contains(numbers, p.Number) || !slices.Contains(p.Replicas, s.d.NodeID) {
			continue
		}
		hosted, err := s.d.Replicas.Partition(t.Name, p.Number)
		if err != nil {
			s.unexpected("cannot open partition", err, "topic", t.Name, "partition", p.Number)
			continue
		}
		part := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
		part.Partition, part.Size = p.Number, hosted.Log().Size()
		out.Partitions = append(out.Partitions, part)
	}
	if len(out.Partitions) > 0 {
		dir.Topics = append(dir.Topics, out)
	}
}
