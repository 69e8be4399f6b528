package server

import "github.com/twmb/franz-go/pkg/kmsg"

func (s *Server) listOffsets(r *request) kmsg.Response             { panic("stub") }
func (s *Server) metadata(r *request) kmsg.Response                { panic("stub") }
func (s *Server) apiVersions(r *request) kmsg.Response             { panic("stub") }
func (s *Server) createTopics(r *request) kmsg.Response            { panic("stub") }
func (s *Server) deleteTopics(r *request) kmsg.Response            { panic("stub") }
func (s *Server) deleteRecords(r *request) kmsg.Response           { panic("stub") }
func (s *Server) offsetForLeaderEpoch(r *request) kmsg.Response    { panic("stub") }
func (s *Server) describeConfigs(r *request) kmsg.Response         { panic("stub") }
func (s *Server) alterConfigs(r *request) kmsg.Response            { panic("stub") }
func (s *Server) describeLogDirs(r *request) kmsg.Response         { panic("stub") }
func (s *Server) createPartitions(r *request) kmsg.Response        { panic("stub") }
func (s *Server) incrementalAlterConfigs(r *request) kmsg.Response { panic("stub") }
func (s *Server) describeCluster(r *request) kmsg.Response         { panic("stub") }
func (s *Server) describeProducers(r *request) kmsg.Response       { panic("stub") }
func (s *Server) describeTopicPartitions(r *request) kmsg.Response { panic("stub") }
