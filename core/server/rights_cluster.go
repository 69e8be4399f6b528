package server

import (
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/forebayhub/forebay/core/auth"
)

// onCluster are the rights of an API that asks for one operation on the cluster, and for all of the request.
func onCluster(operation int8) rights {
	return func(_ *Server, r *request) (kmsg.Response, func(kmsg.Response)) {
		if r.mayCluster(operation) {
			return nil, nil
		}
		return refusedWhole(r.body), nil
	}
}

// refusedWhole is CLUSTER_AUTHORIZATION_FAILED in the form that each response has for it; nil closes the connection.
func refusedWhole(body kmsg.Request) kmsg.Response {
	code, text := kerr.ClusterAuthorizationFailed.Code, message(kerr.ClusterAuthorizationFailed)
	switch req := body.(type) {
	case *kmsg.DescribeLogDirsRequest:
		r := kmsg.NewPtrDescribeLogDirsResponse()
		r.ErrorCode = code
		return r
	case *kmsg.ElectLeadersRequest:
		r := kmsg.NewPtrElectLeadersResponse()
		r.ErrorCode = code
		for _, t := range req.Topics {
			out := kmsg.NewElectLeadersResponseTopic()
			out.Topic = t.Topic
			for _, n := range t.Partitions {
				p := kmsg.NewElectLeadersResponseTopicPartition()
				p.Partition, p.ErrorCode, p.ErrorMessage = n, code, text
				out.Partitions = append(out.Partitions, p)
			}
			r.Topics = append(r.Topics, out)
		}
		return r
	case *kmsg.UnregisterBrokerRequest:
		r := kmsg.NewPtrUnregisterBrokerResponse()
		r.ErrorCode, r.ErrorMessage = code, text
		return r
	case *kmsg.UpdateFeaturesRequest:
		r := kmsg.NewPtrUpdateFeaturesResponse()
		r.ErrorCode, r.ErrorMessage = code, text
		return r
	case *kmsg.ListPartitionReassignmentsRequest:
		r := kmsg.NewPtrListPartitionReassignmentsResponse()
		r.ErrorCode, r.ErrorMessage = code, text
		return r
	case *kmsg.AlterPartitionAssignmentsRequest:
		r := kmsg.NewPtrAlterPartitionAssignmentsResponse()
		r.ErrorCode, r.ErrorMessage = code, text
		return r
	case *kmsg.DescribeClientQuotasRequest:
		r := kmsg.NewPtrDescribeClientQuotasResponse()
		r.ErrorCode, r.ErrorMessage = code, text
		return r
	case *kmsg.AlterClientQuotasRequest:
		r := kmsg.NewPtrAlterClientQuotasResponse()
		for _, e := range req.Entries {
			out := kmsg.NewAlterClientQuotasResponseEntry()
			out.ErrorCode, out.ErrorMessage = code, text
			for _, n := range e.Entity {
				name := kmsg.NewAlterClientQuotasResponseEntryEntity()
				name.Type, name.Name = n.Type, n.Name
				out.Entity = append(out.Entity, name)
			}
			r.Entries = append(r.Entries, out)
		}
		return r
	case *kmsg.ListConfigResourcesRequest:
		r := kmsg.NewPtrListConfigResourcesResponse()
		r.ErrorCode = code
		return r
	case *kmsg.DescribeUserSCRAMCredentialsRequest:
		r := kmsg.NewPtrDescribeUserSCRAMCredentialsResponse()
		r.ErrorCode, r.ErrorMessage = code, text
		return r
	case *kmsg.AlterUserSCRAMCredentialsRequest:
		return refusedScram(req, code, text)
	case *kmsg.DescribeACLsRequest:
		r := kmsg.NewPtrDescribeACLsResponse()
		r.ErrorCode, r.ErrorMessage = code, text
		return r
	case *kmsg.CreateACLsRequest:
		r := kmsg.NewPtrCreateACLsResponse()
		for range req.Creations {
			r.Results = append(r.Results, kmsg.CreateACLsResponseResult{ErrorCode: code, ErrorMessage: text})
		}
		return r
	case *kmsg.DeleteACLsRequest:
		r := kmsg.NewPtrDeleteACLsResponse()
		for range req.Filters {
			r.Results = append(r.Results, kmsg.DeleteACLsResponseResult{ErrorCode: code, ErrorMessage: text})
		}
		return r
	case *kmsg.DescribeQuorumRequest:
		r := kmsg.NewPtrDescribeQuorumResponse()
		r.ErrorCode, r.ErrorMessage = code, text
		return r
	}
	return nil
}

func refusedScram(req *kmsg.AlterUserSCRAMCredentialsRequest, code int16, text *string) kmsg.Response {
	r := kmsg.NewPtrAlterUserSCRAMCredentialsResponse()
	seen := map[string]bool{}
	add := func(user string) {
		if !seen[user] {
			seen[user] = true
			r.Results = append(r.Results, kmsg.AlterUserSCRAMCredentialsResponseResult{User: user, ErrorCode: code, ErrorMessage: text})
		}
	}
	for _, d := range req.Deletions {
		add(d.Name)
	}
	for _, u := range req.Upsertions {
		add(u.Name)
	}
	return r
}

// clusterOperations are those of KIP-430; 0 for who may not describe the cluster.
func (r *request) clusterOperations() int32 {
	if !r.mayCluster(auth.Describe) {
		return 0
	}
	return r.rules.Operations(r.principal, r.host, auth.Cluster, auth.ClusterName)
}

func describeClusterRights(_ *Server, r *request) (kmsg.Response, func(kmsg.Response)) {
	return nil, func(resp kmsg.Response) {
		if c := resp.(*kmsg.DescribeClusterResponse); c.ClusterAuthorizedOperations != opsUnknown {
			c.ClusterAuthorizedOperations = r.clusterOperations()
		}
	}
}

func writeTxnMarkersRights(_ *Server, r *request) (kmsg.Response, func(kmsg.Response)) {
	if r.mayCluster(auth.Alter) || r.mayCluster(auth.ClusterAction) {
		return nil, nil
	}
	resp := kmsg.NewPtrWriteTxnMarkersResponse()
	for _, m := range r.body.(*kmsg.WriteTxnMarkersRequest).Markers {
		out := kmsg.NewWriteTxnMarkersResponseMarker()
		out.ProducerID = m.ProducerID
		for _, t := range m.Topics {
			ot := kmsg.NewWriteTxnMarkersResponseMarkerTopic()
			ot.Topic = t.Topic
			for _, n := range t.Partitions {
				p := kmsg.NewWriteTxnMarkersResponseMarkerTopicPartition()
				p.Partition, p.ErrorCode = n, kerr.ClusterAuthorizationFailed.Code
				ot.Partitions = append(ot.Partitions, p)
			}
			out.Topics = append(out.Topics, ot)
		}
		resp.Markers = append(resp.Markers, out)
	}
	return resp, nil
}

// configError says which rights a config resource needs; nil: none that are missing. An unknown type is the handler's to refuse.
func (r *request) configError(operation int8, kind kmsg.ConfigResourceType, name string) *kerr.Error {
	switch kind {
	case kmsg.ConfigResourceTypeTopic:
		if !r.may(operation, auth.Topic, name) {
			return kerr.TopicAuthorizationFailed
		}
	case kmsg.ConfigResourceTypeGroupConfig:
		if !r.may(operation, auth.Group, name) {
			return kerr.GroupAuthorizationFailed
		}
	default:
		if !r.mayCluster(operation) {
			return kerr.ClusterAuthorizationFailed
		}
	}
	return nil
}

func describeConfigsRights(_ *Server, r *request) (kmsg.Response, func(kmsg.Response)) {
	req := r.body.(*kmsg.DescribeConfigsRequest)
	yes, no := part(req.Resources, func(x *kmsg.DescribeConfigsRequestResource) bool {
		return r.configError(auth.DescribeConfigs, x.ResourceType, x.ResourceName) == nil
	})
	req.Resources = yes
	return nil, func(resp kmsg.Response) {
		for _, x := range no {
			err := r.configError(auth.DescribeConfigs, x.ResourceType, x.ResourceName)
			out := kmsg.NewDescribeConfigsResponseResource()
			out.ResourceType, out.ResourceName, out.ErrorCode, out.ErrorMessage = x.ResourceType, x.ResourceName, err.Code, message(err)
			resp.(*kmsg.DescribeConfigsResponse).Resources = append(resp.(*kmsg.DescribeConfigsResponse).Resources, out)
		}
	}
}

func alterConfigsRights(_ *Server, r *request) (kmsg.Response, func(kmsg.Response)) {
	req := r.body.(*kmsg.AlterConfigsRequest)
	yes, no := part(req.Resources, func(x *kmsg.AlterConfigsRequestResource) bool {
		return r.configError(auth.AlterConfigs, x.ResourceType, x.ResourceName) == nil
	})
	req.Resources = yes
	return nil, func(resp kmsg.Response) {
		for _, x := range no {
			err := r.configError(auth.AlterConfigs, x.ResourceType, x.ResourceName)
			out := kmsg.NewAlterConfigsResponseResource()
			out.ResourceType, out.ResourceName, out.ErrorCode, out.ErrorMessage = x.ResourceType, x.ResourceName, err.Code, message(err)
			resp.(*kmsg.AlterConfigsResponse).Resources = append(resp.(*kmsg.AlterConfigsResponse).Resources, out)
		}
	}
}

func incrementalAlterConfigsRights(_ *Server, r *request) (kmsg.Response, func(kmsg.Response)) {
	req := r.body.(*kmsg.IncrementalAlterConfigsRequest)
	yes, no := part(req.Resources, func(x *kmsg.IncrementalAlterConfigsRequestResource) bool {
		return r.configError(auth.AlterConfigs, x.ResourceType, x.ResourceName) == nil
	})
	req.Resources = yes
	return nil, func(resp kmsg.Response) {
		for _, x := range no {
			err := r.configError(auth.AlterConfigs, x.ResourceType, x.ResourceName)
			out := kmsg.NewIncrementalAlterConfigsResponseResource()
			out.ResourceType, out.ResourceName, out.ErrorCode, out.ErrorMessage = x.ResourceType, x.ResourceName, err.Code, message(err)
			resp.(*kmsg.IncrementalAlterConfigsResponse).Resources = append(resp.(*kmsg.IncrementalAlterConfigsResponse).Resources, out)
		}
	}
}
