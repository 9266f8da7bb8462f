//! Security groups with their rules, and address groups.

use reqwest::{Method, RequestBuilder};

use super::{Client, ClientError};
use crate::{
    AddressGroup, AddressGroupFilter, AddressGroupPatch, NewAddressGroup, NewSecurityGroup,
    NewSecurityGroupRule, Page, PageQuery, SecurityGroup, SecurityGroupFilter, SecurityGroupPatch,
    SecurityGroupRule,
};

const GROUPS: [&str; 2] = ["v1", "security-groups"];
const ADDRESS_GROUPS: [&str; 2] = ["v1", "address-groups"];

impl Client {
    /// Makes a security group.
    pub async fn create_security_group(
        &self,
        group: &NewSecurityGroup,
    ) -> Result<SecurityGroup, ClientError> {
        self.send(self.post(&GROUPS).json(group)).await
    }

    /// Lists security groups.
    pub async fn list_security_groups(
        &self,
        filter: &SecurityGroupFilter,
        page: &PageQuery,
    ) -> Result<Page<SecurityGroup>, ClientError> {
        self.send(self.get(&GROUPS).query(filter).query(page)).await
    }

    /// Shows a security group, by name or id. A name needs its project where several have it.
    pub async fn security_group(
        &self,
        group: &str,
        project: Option<&str>,
    ) -> Result<SecurityGroup, ClientError> {
        self.send(within(self.get(&["v1", "security-groups", group]), project)).await
    }

    /// Changes a security group's name or description.
    pub async fn patch_security_group(
        &self,
        group: &str,
        project: Option<&str>,
        patch: &SecurityGroupPatch,
    ) -> Result<SecurityGroup, ClientError> {
        self.send(within(self.request(Method::PATCH, &["v1", "security-groups", group]), project).json(patch))
            .await
    }

    /// Deletes a security group that nothing uses.
    pub async fn delete_security_group(&self, group: &str, project: Option<&str>) -> Result<(), ClientError> {
        self.send_for_nothing(within(self.delete(&["v1", "security-groups", group]), project)).await
    }

    /// Adds a rule to a security group.
    pub async fn add_security_group_rule(
        &self,
        group: &str,
        project: Option<&str>,
        rule: &NewSecurityGroupRule,
    ) -> Result<SecurityGroupRule, ClientError> {
        self.send(within(self.post(&["v1", "security-groups", group, "rules"]), project).json(rule)).await
    }

    /// Lists a security group's rules.
    pub async fn list_security_group_rules(
        &self,
        group: &str,
        project: Option<&str>,
        page: &PageQuery,
    ) -> Result<Page<SecurityGroupRule>, ClientError> {
        self.send(within(self.get(&["v1", "security-groups", group, "rules"]), project).query(page)).await
    }

    /// Deletes a rule of a security group, by id.
    pub async fn delete_security_group_rule(
        &self,
        group: &str,
        project: Option<&str>,
        rule: &str,
    ) -> Result<(), ClientError> {
        let request = self.delete(&["v1", "security-groups", group, "rules", rule]);
        self.send_for_nothing(within(request, project)).await
    }

    /// Makes an address group.
    pub async fn create_address_group(&self, group: &NewAddressGroup) -> Result<AddressGroup, ClientError> {
        self.send(self.post(&ADDRESS_GROUPS).json(group)).await
    }

    /// Lists address groups.
    pub async fn list_address_groups(
        &self,
        filter: &AddressGroupFilter,
        page: &PageQuery,
    ) -> Result<Page<AddressGroup>, ClientError> {
        self.send(self.get(&ADDRESS_GROUPS).query(filter).query(page)).await
    }

    /// Shows an address group, by name or id. A name needs its project where several have it.
    pub async fn address_group(
        &self,
        group: &str,
        project: Option<&str>,
    ) -> Result<AddressGroup, ClientError> {
        self.send(within(self.get(&["v1", "address-groups", group]), project)).await
    }

    /// Changes an address group's name, or gives it other addresses.
    pub async fn patch_address_group(
        &self,
        group: &str,
        project: Option<&str>,
        patch: &AddressGroupPatch,
    ) -> Result<AddressGroup, ClientError> {
        self.send(within(self.request(Method::PATCH, &["v1", "address-groups", group]), project).json(patch))
            .await
    }

    /// Deletes an address group that no rule names.
    pub async fn delete_address_group(&self, group: &str, project: Option<&str>) -> Result<(), ClientError> {
        self.send_for_nothing(within(self.delete(&["v1", "address-groups", group]), project)).await
    }
}

/// The request, about something of this project.
fn within(request: RequestBuilder, project: Option<&str>) -> RequestBuilder {
    request.query(&[("project", project)])
}
