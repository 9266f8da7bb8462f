//! Pools, and the floating IPs that are reserved of them.

use super::{Client, ClientError};
use crate::{
    FloatingIp, FloatingIpAssociation, FloatingIpFilter, NewFloatingIp, NewPool, NewPortForward, Page,
    PageQuery, Pool, PoolRangeRequest,
};

impl Client {
    /// Makes a pool.
    pub async fn create_pool(&self, pool: &NewPool) -> Result<Pool, ClientError> {
        self.send(self.post(&["v1", "pools"]).json(pool)).await
    }

    /// Lists pools.
    pub async fn list_pools(&self, page: &PageQuery) -> Result<Page<Pool>, ClientError> {
        self.send(self.get(&["v1", "pools"]).query(page)).await
    }

    /// Shows a pool, by name or id.
    pub async fn pool(&self, pool: &str) -> Result<Pool, ClientError> {
        self.send(self.get(&["v1", "pools", pool])).await
    }

    /// Deletes a pool of which nothing is reserved any more.
    pub async fn delete_pool(&self, pool: &str) -> Result<(), ClientError> {
        self.send_for_nothing(self.delete(&["v1", "pools", pool])).await
    }

    /// Adds addresses to a pool.
    pub async fn add_pool_range(&self, pool: &str, range: &PoolRangeRequest) -> Result<Pool, ClientError> {
        self.send(self.post(&["v1", "pools", pool, "ranges"]).json(range)).await
    }

    /// Takes addresses of which none is reserved out of a pool.
    pub async fn remove_pool_range(&self, pool: &str, range: &PoolRangeRequest) -> Result<Pool, ClientError> {
        self.send(self.post(&["v1", "pools", pool, "ranges", "remove"]).json(range)).await
    }

    /// Reserves a floating IP for a project.
    pub async fn reserve_floating_ip(&self, floating: &NewFloatingIp) -> Result<FloatingIp, ClientError> {
        self.send(self.post(&["v1", "floating-ips"]).json(floating)).await
    }

    /// Lists the floating IPs that projects have.
    pub async fn list_floating_ips(
        &self,
        filter: &FloatingIpFilter,
        page: &PageQuery,
    ) -> Result<Page<FloatingIp>, ClientError> {
        self.send(self.get(&["v1", "floating-ips"]).query(filter).query(page)).await
    }

    /// Shows a floating IP.
    pub async fn floating_ip(&self, address: &str) -> Result<FloatingIp, ClientError> {
        self.send(self.get(&["v1", "floating-ips", address])).await
    }

    /// Gives a floating IP that leads nowhere back to its pool.
    pub async fn release_floating_ip(&self, address: &str) -> Result<(), ClientError> {
        self.send_for_nothing(self.delete(&["v1", "floating-ips", address])).await
    }

    /// Lets a floating IP lead to an instance.
    pub async fn associate_floating_ip(
        &self,
        address: &str,
        association: &FloatingIpAssociation,
    ) -> Result<FloatingIp, ClientError> {
        self.send(self.post(&["v1", "floating-ips", address, "associate"]).json(association)).await
    }

    /// Lets a floating IP lead nowhere; its project keeps it.
    pub async fn disassociate_floating_ip(&self, address: &str) -> Result<FloatingIp, ClientError> {
        self.send(self.post(&["v1", "floating-ips", address, "disassociate"])).await
    }

    /// Lets a port of a floating IP lead to one of an instance.
    pub async fn forward_port(
        &self,
        address: &str,
        forward: &NewPortForward,
    ) -> Result<FloatingIp, ClientError> {
        self.send(self.post(&["v1", "floating-ips", address, "forwards"]).json(forward)).await
    }

    /// Lets a port of a floating IP lead where the rest of it does.
    pub async fn unforward_port(
        &self,
        address: &str,
        protocol: &str,
        port: u32,
    ) -> Result<FloatingIp, ClientError> {
        let port = port.to_string();
        self.send(self.delete(&["v1", "floating-ips", address, "forwards", protocol, &port])).await
    }
}
