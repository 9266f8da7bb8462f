//! DNS domains, and the names in them.

use reqwest::Method;

use super::{Client, ClientError};
use crate::{DnsDomain, DnsRecord, DnsRecordFilter, DnsRecordRequest, NewDnsDomain, Page, PageQuery};

impl Client {
    /// Makes a domain.
    pub async fn create_dns_domain(&self, domain: &NewDnsDomain) -> Result<DnsDomain, ClientError> {
        self.send(self.post(&["v1", "dns", "domains"]).json(domain)).await
    }

    /// Lists domains.
    pub async fn list_dns_domains(&self, page: &PageQuery) -> Result<Page<DnsDomain>, ClientError> {
        self.send(self.get(&["v1", "dns", "domains"]).query(page)).await
    }

    /// Deletes a domain with all names in it.
    pub async fn delete_dns_domain(&self, domain: &str) -> Result<(), ClientError> {
        self.send_for_nothing(self.delete(&["v1", "dns", "domains", domain])).await
    }

    /// Makes a name in a domain, or gives it other addresses.
    pub async fn put_dns_record(
        &self,
        domain: &str,
        name: &str,
        record: &DnsRecordRequest,
    ) -> Result<DnsRecord, ClientError> {
        self.send(self.request(Method::PUT, &record_path(domain, name)).json(record)).await
    }

    /// Lists the names in a domain.
    pub async fn list_dns_records(
        &self,
        domain: &str,
        filter: &DnsRecordFilter,
        page: &PageQuery,
    ) -> Result<Page<DnsRecord>, ClientError> {
        let request = self.get(&["v1", "dns", "domains", domain, "records"]);
        self.send(request.query(filter).query(page)).await
    }

    /// Shows a name in a domain.
    pub async fn dns_record(&self, domain: &str, name: &str) -> Result<DnsRecord, ClientError> {
        self.send(self.get(&record_path(domain, name))).await
    }

    /// Deletes a name in a domain.
    pub async fn delete_dns_record(&self, domain: &str, name: &str) -> Result<(), ClientError> {
        self.send_for_nothing(self.delete(&record_path(domain, name))).await
    }
}

fn record_path<'a>(domain: &'a str, name: &'a str) -> [&'a str; 6] {
    ["v1", "dns", "domains", domain, "records", name]
}
