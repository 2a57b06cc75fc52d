"""The report in a browser: what is there, whether the viewer answers to keyboard and mouse, whether anything fails."""

import shutil

import pytest

pytestmark = pytest.mark.usefixtures("contained")
selenium = pytest.importorskip("selenium.webdriver", reason="the browser test needs the package selenium")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    binary = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("the browser test needs Chromium and chromedriver (Debian: chromium, chromium-driver)")
    options = selenium.ChromeOptions()
    options.binary_location = binary
    profile = tmp_path_factory.mktemp("profile")
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "no-first-run", "disable-background-networking",
                     "disable-dev-shm-usage", f"user-data-dir={profile}", "window-size=1200,900"):  # fmt: skip
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    session = selenium.Chrome(options, selenium.ChromeService(driver))
    yield session
    session.quit()


@pytest.fixture
def page(browser, finished):
    browser.get((finished / "report.html").as_uri())
    wait(browser, lambda: status(browser))
    yield browser
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def wait(browser, condition, seconds=10):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, seconds).until(lambda _: condition())


def element(browser, name):
    return browser.find_element("id", name)


def status(browser):
    return element(browser, "v-status").text


def value(browser, name):
    return element(browser, f"v-{name}").get_property("value")


def pixels(browser):
    return browser.execute_script("return document.getElementById('v-canvas').toDataURL()")


def test_everything_is_there_and_named(page):
    for section in ("verdict", "asked", "images", "quality", "gap", "cost", "retain", "limits", "runs"):
        assert element(page, section).find_element("tag name", "h2").text
    for figure in ("panels", "radar", "pareto", "retain_fraction"):
        image = element(page, f"figure-{figure}").find_element("tag name", "img")
        assert image.get_attribute("alt")
        assert page.execute_script("return arguments[0].complete && arguments[0].naturalWidth > 0", image)
    unnamed = page.execute_script(
        "return [...document.querySelectorAll('input, select, button')]"
        ".filter(e => !(e.labels && e.labels.length) && !e.textContent.trim()).map(e => e.id)"
    )
    assert unnamed == []
    assert page.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")


def test_the_viewer_answers_to_the_keyboard(page):
    canvas = element(page, "v-canvas")
    page.execute_script("arguments[0].scrollIntoView({block: 'center'}); arguments[0].focus()", canvas)
    first, picture = status(page), pixels(page)
    canvas.send_keys("\ue015")  # arrow down: the slice below
    wait(page, lambda: status(page) != first)
    assert pixels(page) != picture
    canvas.send_keys("\ue014\ue014")  # arrow right twice
    wait(page, lambda: value(page, "swipe") == "60")
    canvas.send_keys("e")
    wait(page, lambda: "error maps" in status(page))
    assert element(page, "v-bar").is_displayed()
    canvas.send_keys("e")
    wait(page, lambda: "error maps" not in status(page))
    before = pixels(page)
    canvas.send_keys("ww")
    wait(page, lambda: value(page, "window") == "90")
    wait(page, lambda: pixels(page) != before)
    canvas.send_keys("r")
    wait(page, lambda: (value(page, "window"), value(page, "swipe")) == ("100", "50"))


def test_the_viewer_answers_to_its_controls(page):
    first, picture = status(page), pixels(page)
    page.execute_script(
        "const s = document.getElementById('v-swipe'); s.value = 100; s.dispatchEvent(new Event('input'));"
    )
    wait(page, lambda: element(page, "v-swipe-out").text == "100 %")
    wait(page, lambda: pixels(page) != picture)
    element(page, "v-left").find_element("css selector", "option[value='target']").click()
    wait(page, lambda: "left target" in status(page))
    element(page, "v-volume").find_elements("tag name", "option")[-1].click()
    wait(page, lambda: status(page).partition(",")[0] != first.partition(",")[0])
    assert element(page, "v-canvas").get_attribute("aria-label") == status(page)
