import ssl

from shipway import tls
from tests.engines.torchserve.test_tls import make_certificate


def test_of_a_chain_only_the_first_certificate_is_trusted(tmp_path):
    authority, key = make_certificate(tmp_path / "authority")
    leaf, _ = make_certificate(
        tmp_path, "-newkey", "rsa:3072", "-CA", str(authority), "-CAkey", str(key)
    )
    chain = tmp_path / "chain.pem"
    chain.write_text(leaf.read_text() + authority.read_text())
    der = [ssl.PEM_cert_to_DER_cert(each.read_text()) for each in (leaf, authority)]
    trusted = tls.trust(str(chain)).cert_store_stats()
    assert trusted["x509"] == 1
    assert ssl.PEM_cert_to_DER_cert(tls.first_certificate(str(chain))) == der[0] != der[1]
